// Rewards, and redeeming one: asked for once, whatever is tapped and whatever gets lost.
import { useCallback, useEffect, useState } from "preact/hooks";
import type { Text } from "../../../shared/language";
import { Button, Card, Dialog, Fault, Notice, problemText, useAction } from "../parts";
import { openOrder, order, type Redemption, type Reward, redeem, redemptions, rewards } from "../points";
import { points as shown, t } from "../words";

const STATES: Record<Redemption["state"], Text> = {
  reserved: ["on its way", "处理中"],
  fulfilled: ["yours", "已兑换"],
  voided: ["did not work; the points are back", "未成功，积分已退回"],
  unknown: ["being looked into", "正在核实"],
};

function Confirm({
  reward,
  onClose,
  onDone,
}: {
  reward: Reward;
  onClose: () => void;
  onDone: (done: Redemption) => void;
}) {
  const { busy, fault, run } = useAction();
  return (
    <Dialog
      title={t(["Redeem “{title}”?", "要兑换“{title}”吗？"], { title: reward.title })}
      onClose={onClose}
    >
      <p>{t(["It costs {n} points.", "需要 {n} 积分。"], { n: shown(reward.micro_points) })}</p>
      {reward.terms && <p class="soft">{reward.terms}</p>}
      <Fault text={fault} />
      <div class="pair">
        <Button kind="plain" onClick={onClose}>
          {t(["Not now", "暂不"])}
        </Button>
        <Button icon="gift" busy={busy} onClick={() => run(async () => onDone(await redeem(order(reward))))}>
          {fault ? t(["Try again", "再试一次"]) : t(["Redeem", "兑换"])}
        </Button>
      </div>
    </Dialog>
  );
}

function Done({ done, title, onClose }: { done: Redemption; title: string; onClose: () => void }) {
  return (
    <Dialog title={title} onClose={onClose}>
      <p role="status">
        {done.state === "fulfilled"
          ? t(["It is yours. Enjoy!", "兑换成功，请享用！"])
          : t(STATES[done.state])}
      </p>
      {done.code && (
        <p class="voucher">
          <span class="soft">{t(["Your code", "您的兑换码"])}</span>
          <strong>{done.code}</strong>
        </p>
      )}
      {done.reason && <p class="soft">{done.reason}</p>}
      <Button class="wide" onClick={onClose}>
        {t(["Good", "好的"])}
      </Button>
    </Dialog>
  );
}

export function Rewards({ vested, onRedeemed }: { vested: number; onRedeemed: () => void }) {
  const [offered, setOffered] = useState<Reward[] | null>(null);
  const [past, setPast] = useState<Redemption[]>([]);
  const [fault, setFault] = useState<Text | null>(null);
  const [asked, setAsked] = useState<Reward | null>(null);
  const [done, setDone] = useState<{ title: string; redemption: Redemption } | null>(null);
  const [open, setOpen] = useState(openOrder);
  const again = useAction();

  const load = useCallback(async () => {
    try {
      const [list, before] = await Promise.all([rewards(), redemptions()]);
      setOffered(list);
      setPast(before);
      setFault(null);
    } catch (error) {
      setFault(problemText(error));
    }
  }, []);
  useEffect(() => {
    void load();
  }, [load]);

  const finish = (title: string, redemption: Redemption) => {
    setAsked(null);
    setOpen(null);
    setDone({ title, redemption });
    void load();
    onRedeemed();
  };
  const titleOf = (id: string) => offered?.find((one) => one.id === id)?.title ?? t(["A reward", "一份奖励"]);

  return (
    <>
      <Card title={t(["Rewards", "奖励"])}>
        <Fault text={fault} />
        {open && !asked && (
          <Notice kind="warning">
            <p>
              {t(
                [
                  "“{title}” was asked for, and the answer got lost. Asking again redeems it no second time.",
                  "已申请兑换“{title}”，但没有收到答复。再次询问不会重复兑换。",
                ],
                { title: open.title },
              )}
            </p>
            <Fault text={again.fault} />
            <Button
              kind="plain"
              busy={again.busy}
              onClick={() =>
                again.run(async () => {
                  try {
                    finish(open.title, await redeem(open));
                  } finally {
                    setOpen(openOrder());
                  }
                })
              }
            >
              {t(["Ask again", "再次询问"])}
            </Button>
          </Notice>
        )}
        {offered?.length === 0 && (
          <p class="soft">{t(["The operator offers none yet.", "运营者尚未提供奖励。"])}</p>
        )}
        <ul class="rewards">
          {offered?.map((reward) => {
            const enough = vested >= reward.micro_points;
            return (
              <li key={reward.id}>
                <div>
                  <strong>{reward.title}</strong>
                  <small>
                    {enough
                      ? t(["{n} points", "{n} 积分"], { n: shown(reward.micro_points) })
                      : t(["{n} points, {left} to go", "{n} 积分，还差 {left}"], {
                          n: shown(reward.micro_points),
                          left: shown(reward.micro_points - vested),
                        })}
                  </small>
                  <progress
                    max={reward.micro_points}
                    value={Math.min(vested, reward.micro_points)}
                    aria-label={t(["How far you are", "进度"])}
                  />
                </div>
                <Button
                  kind={enough ? "main" : "plain"}
                  disabled={!enough || reward.stock === 0 || open !== null}
                  onClick={() => setAsked(reward)}
                  aria-label={
                    reward.stock === 0
                      ? undefined
                      : t(["Redeem {title}", "兑换 {title}"], { title: reward.title })
                  }
                >
                  {reward.stock === 0 ? t(["none left", "已兑完"]) : t(["Redeem", "兑换"])}
                </Button>
              </li>
            );
          })}
        </ul>
      </Card>
      {past.length > 0 && (
        <Card title={t(["What you redeemed", "兑换记录"])}>
          <ul class="list">
            {past.map((one) => (
              <li key={one.id}>
                <div>
                  <span>
                    {titleOf(one.reward)}
                    <small>{t(STATES[one.state])}</small>
                    {one.code && <span class="mono">{one.code}</span>}
                  </span>
                  <strong>{shown(one.micro_points)}</strong>
                </div>
              </li>
            ))}
          </ul>
        </Card>
      )}
      {asked && (
        <Confirm
          reward={asked}
          onClose={() => {
            setAsked(null);
            setOpen(openOrder());
          }}
          onDone={(redemption) => finish(asked.title, redemption)}
        />
      )}
      {done && <Done done={done.redemption} title={done.title} onClose={() => setDone(null)} />}
    </>
  );
}
