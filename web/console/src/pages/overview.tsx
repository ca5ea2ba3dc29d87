// How the whole is doing: the fleet, who serves what consumers ask for, and whether it will do for the coming hours.
import { useLive } from "../api";
import { Chart } from "../chart";
import { bytes, count, rate, share } from "../format";
import { Card, Choice, Empty, Figures, Loaded, Notice } from "../parts";
import { link, type Route, turn } from "../route";
import { t } from "../words";
import { FleetFigures, type Summary } from "./fleet";
import type { Report } from "./ledger";
import type { Review } from "./reviews";

interface HistoryTold {
  step_s: number;
  at: number[];
  requests: number[];
  asked_bytes: number[];
  routed_bytes: number[];
  origin_bytes: number[];
  filled_bytes: number[];
  connected: number[];
  reachable: number[];
}

interface CapacityTold {
  at: number[];
  reachable_bps: number[];
  connected_bps: number[];
  demand_bps: number[];
}

const MINUTE_MS = 60_000;

export function Overview(props: { route: Route }) {
  return (
    <>
      <h1>{t("Overview", "概览")}</h1>
      <Attention />
      <Loaded live={useLive<Summary>("fleet/summary")}>{(summary) => <FleetFigures of={summary} />}</Loaded>
      <Offload route={props.route} />
      <Capacity />
    </>
  );
}

function Attention() {
  const reviews = useLive<Review[]>("ledger/v1/reviews?state=open&limit=500", MINUTE_MS).value;
  const reports = useLive<Report[]>("ledger/v1/reports?limit=1", MINUTE_MS);
  const last = reports.value?.[0];
  return (
    <>
      {reports.problem && (
        <Notice tone="warn">
          {t("The ledger is not reached; points wait.", "暂时无法连接账本，积分会稍后入账。")}
        </Notice>
      )}
      {last && !last.sound && (
        <Notice tone="bad">
          <a href={link(["ledger"])}>{t("The books do not reconcile.", "账目对不上。")}</a>
        </Notice>
      )}
      {!!reviews?.length && (
        <Notice tone="warn">
          <a href={link(["reviews"])}>
            {t("Reviews that wait for your decision: {n}", "等待您决定的审核：{n} 项", {
              n: count(reviews.length),
            })}
          </a>
        </Notice>
      )}
    </>
  );
}

/** What this server did not have to send, of all that was asked for; undefined where nothing was. */
export function offload(asked: number, origin: number): number | undefined {
  const all = Math.max(asked, origin);
  return all > 0 ? 1 - origin / all : undefined;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

function Offload(props: { route: Route }) {
  const span = props.route.query.get("span") ?? "day";
  const live = useLive<HistoryTold>(`history?span=${span}`, MINUTE_MS);
  return (
    <Card
      title={t("What devices took over", "设备分担的流量")}
      aside={
        <Choice
          label={t("Time span", "时间范围")}
          value={span}
          onChoose={(wanted) => turn(props.route, { span: wanted === "day" ? "" : wanted })}
          options={[
            ["day", t("24 hours", "24 小时")],
            ["week", t("7 days", "7 天")],
            ["month", t("31 days", "31 天")],
          ]}
        />
      }
    >
      <Loaded live={live}>
        {(told) =>
          told.at.length === 0 ? (
            <Empty>
              {t(
                "Nothing is recorded yet; the first point comes within five minutes.",
                "尚无记录；五分钟内会有第一个数据点。",
              )}
            </Empty>
          ) : (
            <OffloadTold told={told} />
          )
        }
      </Loaded>
    </Card>
  );
}

function OffloadTold(props: { told: HistoryTold }) {
  const { told } = props;
  const asked = sum(told.asked_bytes);
  const origin = sum(told.origin_bytes);
  const whole = offload(asked, origin);
  const shares = told.at.map(
    (_, index) => offload(told.asked_bytes[index] ?? 0, told.origin_bytes[index] ?? 0) ?? null,
  );
  const rates = (column: readonly number[]) => column.map((value) => (value * 8) / told.step_s);
  return (
    <>
      <Figures
        of={[
          [t("Taken over", "分担比例"), whole === undefined ? "–" : share(whole)],
          [
            t("Asked for", "请求量"),
            bytes(asked),
            t("{n} requests", "{n} 次请求", { n: count(sum(told.requests)) }),
          ],
          [t("Sent by this server", "本服务器发送"), bytes(origin), t("to consumers", "发给用户")],
          [
            t("Copied to devices", "复制到设备"),
            bytes(sum(told.filled_bytes)),
            t("by this server", "由本服务器发送"),
          ],
        ]}
      />
      <Chart
        label={t("Share of bytes that devices took over", "设备分担的字节比例")}
        at={told.at}
        series={[
          {
            label: t("share that devices took over", "设备分担比例"),
            tone: "leaf",
            values: shares,
            fill: true,
          },
        ]}
        unit={share}
        max={1}
      />
      <Chart
        label={t("What was asked for, and what this server sent", "请求量与本服务器发送量")}
        at={told.at}
        series={[
          { label: t("asked for", "请求量"), tone: "leaf", values: rates(told.asked_bytes), step: true },
          {
            label: t("sent by this server", "本服务器发送"),
            tone: "clay",
            values: rates(told.origin_bytes),
            step: true,
          },
        ]}
        unit={rate}
      />
      <p class="soft">
        {t(
          "Requests count when they are made, bytes of this server when they are sent. What devices delivered in the end is what the ledger pays for.",
          "请求在发出时计入，本服务器的字节在发送时计入。设备最终交付多少，以账本结算为准。",
        )}
      </p>
    </>
  );
}

function Capacity() {
  const live = useLive<CapacityTold>("capacity", MINUTE_MS);
  return (
    <Card title={t("Capacity that devices foresee, against demand", "预测容量与需求")}>
      <Loaded live={live}>
        {(told) => {
          const tight = told.at.findIndex(
            (_, hour) => (told.demand_bps[hour] ?? 0) > (told.reachable_bps[hour] ?? 0),
          );
          return (
            <>
              {tight >= 0 && sum(told.demand_bps) > 0 && (
                <Notice tone="warn">
                  {t(
                    "In {n} hours more will be asked for than reachable devices foresee that they can serve.",
                    "{n} 小时后，需求将超过可达设备预测的容量。",
                    { n: tight },
                  )}
                </Notice>
              )}
              <Chart
                label={t(
                  "Idle upload foreseen and demand expected, next 24 hours",
                  "未来 24 小时的预测闲置上行与预期需求",
                )}
                at={told.at}
                series={[
                  {
                    label: t("idle upload of reachable devices", "可达设备的闲置上行"),
                    tone: "leaf",
                    values: told.reachable_bps,
                    step: true,
                    fill: true,
                  },
                  {
                    label: t("of all connected devices", "全部已连接设备"),
                    tone: "soft",
                    values: told.connected_bps,
                    step: true,
                  },
                  { label: t("demand", "需求"), tone: "clay", values: told.demand_bps, step: true },
                ]}
                unit={rate}
              />
            </>
          );
        }}
      </Loaded>
    </Card>
  );
}
