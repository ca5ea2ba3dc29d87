// How the device is now, in one look; and one big pause.
import { useState } from "preact/hooks";
import type { Text } from "../../../shared/language";
import { call, type State, type Status } from "../device";
import { daysOf, totalOf } from "../harm";
import { Scene } from "../icons";
import type { Live } from "../live";
import { Button, Card, Fault, Heading, Notice, useAction } from "../parts";
import { Bars, LinePicture } from "../pictures";
import { explain } from "../problems";
import { bytes, clock, moment, number, rate, t } from "../words";

const WHY: Record<string, Text> = {
  metered: [
    "The line costs money by the byte just now, so nothing is shared.",
    "当前线路按流量计费，因此暂不共享。",
  ],
  hours: ["It rests until the hours that you chose.", "正在休息，等待您设定的时段。"],
  month: ["This month's allowance is used up. It goes on next month.", "本月流量已用完，下月继续。"],
  device: ["The device is warm or busy with other things, so it rests.", "设备较热或正忙，暂时休息。"],
  household: ["Your home needs the line just now, so it steps back.", "家人正在用网，它已让开。"],
};

function headline(status: Status): Text {
  if (status.state === "leaving") return ["Saying goodbye", "正在退出"];
  if (status.state === "paused") return ["Paused", "已暂停"];
  const reason = status.refusal?.reason;
  if (reason === "household") return ["Your home comes first", "家人优先"];
  if (reason) return ["Resting", "休息中"];
  if (status.sessions.length > 0) return ["Sharing right now", "正在共享"];
  return ["Ready to share", "随时可以共享"];
}

function sentence(status: Status): string {
  if (status.state === "leaving")
    return t([
      "It hands over the last receipts, then forgets you.",
      "正在交出最后的凭据，随后会忘记您的信息。",
    ]);
  if (status.state === "paused")
    return status.paused_until
      ? t(["Nothing is shared until {when}.", "{when} 之前不共享任何内容。"], {
          when: moment(status.paused_until),
        })
      : t(["Nothing is shared until you say so.", "在您恢复之前不共享任何内容。"]);
  const reason = WHY[status.refusal?.reason ?? ""];
  if (reason) return t(reason);
  const people = status.sessions.length;
  if (people > 0)
    return people === 1
      ? t(["One person is getting a file from here.", "有 1 人正从这里获取文件。"])
      : t(["{n} people are getting files from here.", "有 {n} 人正从这里获取文件。"], { n: people });
  if (status.tasks.some((task) => task.status === "running"))
    return t(["It is fetching files that others will want.", "正在取回别人会需要的文件。"]);
  return t(["Nobody needs anything just now.", "目前没有人需要文件。"]);
}

export function mood(state: State): "day" | "night" | "dawn" {
  return state === "active" ? "day" : state === "activating" ? "dawn" : "night";
}

function Pause({ status }: { status: Status }) {
  const { busy, fault, run } = useAction();
  // What was asked shows at once; the next event from the device confirms it.
  const [asked, setAsked] = useState<State | null>(null);
  const state = asked ?? status.state;
  const act = (path: string, body: Record<string, unknown>, wanted: State) =>
    run(async () => {
      setAsked(wanted);
      try {
        await call("POST", path, body);
      } finally {
        setTimeout(() => setAsked(null), 1500);
      }
    });
  if (status.state === "leaving") return null;
  const untilMorning = () => {
    const morning = new Date();
    morning.setDate(morning.getDate() + (morning.getHours() < 7 ? 0 : 1));
    morning.setHours(7, 0, 0, 0);
    return Math.max(60, Math.round((morning.getTime() - Date.now()) / 1000));
  };
  return (
    <div class="pause">
      {state === "paused" ? (
        <>
          <Button icon="play" busy={busy} class="wide big" onClick={() => act("v1/resume", {}, "active")}>
            {t(["Resume sharing", "恢复共享"])}
          </Button>
          <fieldset class="chips">
            <legend>{t(["Resume by itself", "自动恢复"])}</legend>
            <Button kind="plain" onClick={() => act("v1/pause", { for_s: 3600 }, "paused")}>
              {t(["in an hour", "一小时后"])}
            </Button>
            <Button kind="plain" onClick={() => act("v1/pause", { for_s: untilMorning() }, "paused")}>
              {t(["in the morning", "明早"])}
            </Button>
            <Button kind="plain" onClick={() => act("v1/pause", {}, "paused")}>
              {t(["only by hand", "手动恢复"])}
            </Button>
          </fieldset>
        </>
      ) : (
        <Button
          kind="plain"
          icon="pause"
          busy={busy}
          class="wide big"
          onClick={() => act("v1/pause", {}, "paused")}
        >
          {t(["Pause", "暂停"])}
        </Button>
      )}
      <Fault text={fault} />
    </div>
  );
}

function Forecast({ status }: { status: Status }) {
  const hours = status.forecast_idle_up_bps;
  if (!hours || hours.every((bps) => bps === 0)) return null;
  const start = Math.floor(Date.now() / 3_600_000) * 3600;
  const best = hours.indexOf(Math.max(...hours));
  const text = t(
    ["Most should be free around {when}: about {rate}.", "预计 {when} 前后最空闲：约 {rate}。"],
    {
      when: clock(start + best * 3600),
      rate: rate(hours[best] ?? 0),
    },
  );
  return (
    <Card title={t(["The day ahead", "未来一天"])}>
      <Bars
        label={text}
        bars={hours.map((bps, at) => ({
          key: String(at),
          value: bps,
          label: "",
          ...(at % 6 === 0 ? { mark: at === 0 ? t(["now", "现在"]) : clock(start + at * 3600) } : {}),
        }))}
      />
      <p class="soft">{text}</p>
    </Card>
  );
}

function Gentle({ status }: { status: Status }) {
  const days = daysOf(status.do_no_harm ?? "");
  if (days.length === 0) return null;
  const harm = totalOf(days);
  return (
    <Card title={t(["Gentle with your home", "不打扰家人"])}>
      <dl class="facts">
        <div>
          <dt>{t(["stepped back today", "今天让开"])}</dt>
          <dd>
            {status.today.yields === 1
              ? t(["once", "1 次"])
              : t(["{n} times", "{n} 次"], { n: status.today.yields })}
          </dd>
        </div>
        {harm.yieldMs !== null && (
          <div>
            <dt>{t(["on average within", "平均用时"])}</dt>
            <dd>{t(["{n} s", "{n} 秒"], { n: number(harm.yieldMs / 1000, 1) })}</dd>
          </div>
        )}
        {harm.addedMs !== null && (
          <div>
            <dt>{t(["delay that sharing adds", "共享增加的延迟"])}</dt>
            <dd>{t(["{n} ms", "{n} 毫秒"], { n: number(Math.max(0, harm.addedMs), 1) })}</dd>
          </div>
        )}
      </dl>
      <p class="soft">
        {harm.comparisons > 0
          ? t(
              [
                "In {days} days it compared {n} times, with and without sharing: {felt} times a call could have noticed.",
                "{days} 天内对比了 {n} 次有无共享的差别：有 {felt} 次通话可能会察觉。",
              ],
              { days: harm.days, n: harm.comparisons, felt: harm.felt },
            )
          : t([
              "It compares at random moments, and keeps a signed record.",
              "它会随机对比，并保存一份签名记录。",
            ])}
      </p>
    </Card>
  );
}

export function Home({ live, deviceName }: { live: Live; deviceName: string }) {
  const { status, samples, fresh } = live;
  if (!status)
    return (
      <main>
        <div class="hero waiting">
          <Scene mood="dawn" />
          <div class="hero-text">
            <Heading>{deviceName}</Heading>
            <p>{fresh ? t(["Looking…", "正在查看…"]) : t(explain({ type: "device-away" }))}</p>
          </div>
        </div>
      </main>
    );
  const reach = status.ports?.advice;
  return (
    <main>
      <div class="hero">
        <Scene mood={mood(status.state)} />
        <div class="hero-text">
          <Heading unseen>{deviceName}</Heading>
          <p class="state" role="status">
            {t(headline(status))}
          </p>
          <p>{sentence(status)}</p>
        </div>
      </div>
      {!fresh && <Notice kind="warning">{t(explain({ type: "device-away" }))}</Notice>}
      {status.uplink.error && status.state !== "leaving" && (
        <Notice kind="warning">{t(explain(status.uplink.error))}</Notice>
      )}
      <Pause status={status} />
      <Card title={t(["Your line, the last minute", "线路：最近一分钟"])}>
        <LinePicture samples={samples} householdSeen={status.household_seen_by !== "queue"} />
      </Card>
      <Card title={t(["Today", "今天"])}>
        <dl class="facts">
          <div>
            <dt>{t(["sent to others", "已发送"])}</dt>
            <dd>{bytes(status.today.bytes_up)}</dd>
          </div>
          <div>
            <dt>{t(["files kept", "保存的文件"])}</dt>
            <dd>{number(status.content.objects, 0)}</dd>
          </div>
          <div>
            <dt>{t(["on disk", "占用磁盘"])}</dt>
            <dd>{bytes(status.content.bytes)}</dd>
          </div>
        </dl>
        {reach && <Notice kind="warning">{t(explain(reach))}</Notice>}
      </Card>
      <Gentle status={status} />
      <Forecast status={status} />
    </main>
  );
}
