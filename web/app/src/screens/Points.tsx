// What was earned: now, before, and why; and what it is good for.
import { useCallback, useEffect, useState } from "preact/hooks";
import type { Text } from "../../../shared/language";
import { Icon } from "../icons";
import { Button, Card, Dialog, Fault, Heading, Notice, problemText, useAction } from "../parts";
import { DayBars } from "../pictures";
import {
  type Day,
  type Delivery,
  deliveries,
  lastDays,
  type Points,
  points,
  type Settlement,
  settlement,
} from "../points";
import { bytes, clock, date, day as dayName, number, points as shown, span, t } from "../words";
import { Rewards } from "./Rewards";

const DAYS_SHOWN = 14;
/** The ledger books within seconds; older figures are worth a word. */
const OLD_S = 120;
const PAGE = 100;

const SERVICES: Record<string, Text> = {
  object: ["a file", "文件"],
  fill: ["another device", "另一台设备"],
  live: ["a live stream", "直播"],
  probe: ["a measurement", "测量"],
};

function Factors({ jti, onClose }: { jti: string; onClose: () => void }) {
  const [found, setFound] = useState<Settlement | null>(null);
  const [fault, setFault] = useState<Text | null>(null);
  useEffect(() => {
    settlement(jti)
      .then(setFound)
      .catch((error) => setFault(problemText(error)));
  }, [jti]);
  const times = (permille: number) => `× ${number(permille / 1000, 2)}`;
  return (
    <Dialog title={t(["How these points came about", "这些积分是怎么来的"])} onClose={onClose}>
      <Fault text={fault} />
      {found && (
        <>
          <dl class="rows">
            <div>
              <dt>{t(["delivered and confirmed", "已送达并确认"])}</dt>
              <dd>{bytes(found.factors.bytes)}</dd>
            </div>
            <div>
              <dt>{t(["points for each GiB", "每 GiB 积分"])}</dt>
              <dd>{shown(found.factors.rate)}</dd>
            </div>
            <div>
              <dt>{t(["quality", "质量"])}</dt>
              <dd>{times(found.factors.quality)}</dd>
            </div>
            <div>
              <dt>{t(["how much it was needed", "需求程度"])}</dt>
              <dd>{times(found.factors.scarcity)}</dd>
            </div>
            <div>
              <dt>
                {found.tier === "countersigned"
                  ? t(["confirmed by the receiver", "接收方已签名确认"])
                  : t(["without a confirmation", "无接收方确认"])}
              </dt>
              <dd>{times(found.factors.weight)}</dd>
            </div>
            <div class="sum">
              <dt>{t(["points", "积分"])}</dt>
              <dd>{shown(found.micro_points)}</dd>
            </div>
          </dl>
          <p class="soft">
            {found.reversed
              ? t(["Taken back: {reason}", "已撤回：{reason}"], { reason: found.reversed.reason })
              : found.matures_at * 1000 > Date.now()
                ? t(["Yours to redeem from {date}.", "{date} 起可兑换。"], { date: date(found.matures_at) })
                : t(["Yours to redeem.", "可兑换。"])}
          </p>
          <p class="soft mono">{found.jti}</p>
        </>
      )}
      <Button kind="plain" class="wide" onClick={onClose}>
        {t(["Close", "关闭"])}
      </Button>
    </Dialog>
  );
}

function DayList({ day }: { day: Day }) {
  const [found, setFound] = useState<Delivery[] | null>(null);
  const [more, setMore] = useState(false);
  const [opened, setOpened] = useState<string | null>(null);
  const { fault, run, busy } = useAction();
  const load = (after: number, before: Delivery[]) =>
    run(async () => {
      const page = await deliveries(day.day, after);
      setFound([...before, ...page]);
      setMore(page.length === PAGE);
    });
  useEffect(() => {
    setFound(null);
    if (day.deliveries > 0) void load(0, []);
  }, [day.day, day.deliveries]);
  return (
    <div class="day">
      <h3>
        {dayName(day.day, true)} · {t(["{n} points", "{n} 积分"], { n: shown(day.micro_points) })}
      </h3>
      {day.reversed > 0 && (
        <p class="soft">
          {t(["{n} points were taken back.", "已撤回 {n} 积分。"], { n: shown(day.reversed) })}
        </p>
      )}
      {day.deliveries === 0 && <p class="soft">{t(["Nothing was delivered.", "没有送达记录。"])}</p>}
      <Fault text={fault} />
      <ul class="list">
        {found?.map((one) => (
          <li key={one.jti}>
            <button type="button" onClick={() => setOpened(one.jti)}>
              <span>
                {t(["{size} of {what}", "{what}，{size}"], {
                  size: bytes(one.bytes),
                  what: t(SERVICES[one.service] ?? [one.service, one.service]),
                })}
                <small>{clock(one.at)}</small>
              </span>
              <strong>{shown(one.micro_points)}</strong>
              <Icon name="next" />
            </button>
          </li>
        ))}
      </ul>
      {more && (
        <Button kind="quiet" busy={busy} onClick={() => load(found?.at(-1)?.seq ?? 0, found ?? [])}>
          {t(["More", "更多"])}
        </Button>
      )}
      {opened && <Factors jti={opened} onClose={() => setOpened(null)} />}
    </div>
  );
}

export function PointsScreen() {
  const [found, setFound] = useState<Points | null>(null);
  const [fault, setFault] = useState<Text | null>(null);
  const [chosen, setChosen] = useState<string | null>(null);
  const load = useCallback(
    () =>
      points()
        .then((answer) => {
          setFound(answer);
          setFault(null);
        })
        .catch((error) => setFault(problemText(error))),
    [],
  );
  useEffect(() => {
    void load();
    const timer = setInterval(() => {
      if (!document.hidden) void load();
    }, 30_000);
    return () => clearInterval(timer);
  }, [load]);

  const days = found ? lastDays(found.days, DAYS_SHOWN) : [];
  const today = days.at(-1);
  const open = days.find((one) => one.day === chosen);
  return (
    <main>
      <Card class="purse">
        <Heading>{t(["Points", "积分"])}</Heading>
        <Fault text={fault} />
        {found && (
          <>
            <dl class="facts">
              <div class="main-fact">
                <dt>{t(["yours to redeem", "可兑换"])}</dt>
                <dd>{shown(found.vested)}</dd>
              </div>
              <div>
                <dt>{t(["earned today", "今天获得"])}</dt>
                <dd>{shown(today?.micro_points ?? 0)}</dd>
              </div>
              <div>
                <dt>{t(["ripening", "待生效"])}</dt>
                <dd>{shown(found.held)}</dd>
              </div>
            </dl>
            <p class="soft">
              {t([
                "New points ripen for a while before you can redeem them. Whatever happens, they stay yours.",
                "新积分要过一段时间才能兑换。无论如何，它们都归您所有。",
              ])}
            </p>
            {found.age_s > OLD_S && (
              <Notice kind="warning">
                {t(
                  [
                    "The ledger is away. These figures are {span} old; nothing is lost.",
                    "账本暂时连不上，数据为 {span}前的，不会丢失。",
                  ],
                  {
                    span: span(found.age_s),
                  },
                )}
              </Notice>
            )}
          </>
        )}
      </Card>
      {found && (
        <Card title={t(["Day by day", "每日明细"])}>
          <DayBars
            label={t(["Points of the last {n} days; choose a day", "最近 {n} 天的积分；请选择一天"], {
              n: DAYS_SHOWN,
            })}
            chosen={chosen}
            onChoose={(key) => setChosen(key === chosen ? null : key)}
            bars={days.map((one, at) => ({
              key: one.day,
              value: one.micro_points,
              label: t(["{day}: {n} points", "{day}：{n} 积分"], {
                day: dayName(one.day, true),
                n: shown(one.micro_points),
              }),
              mark: at === days.length - 1 || at % 4 === 1 ? dayName(one.day) : "",
            }))}
          />
          {open ? (
            <DayList day={open} />
          ) : (
            <p class="soft">{t(["Choose a day to see its deliveries.", "点选一天查看明细。"])}</p>
          )}
        </Card>
      )}
      <Rewards vested={found?.vested ?? 0} onRedeemed={load} />
    </main>
  );
}
