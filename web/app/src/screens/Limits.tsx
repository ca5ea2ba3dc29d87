// What the device may use; each limit says in plain words what it brings about. A change counts at once.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Text } from "../../../shared/language";
import { call, type Limits, type Status } from "../device";
import { hoursIn, type Week, weekOf, windowsOf } from "../hours";
import { Button, Card, Check, Choice, Fault, Heading, problemText } from "../parts";
import { bytes, rate, t, weekdays } from "../words";

const GB = 1e9;
const GIB = 2 ** 30;

function Range(props: {
  label: string;
  value: number;
  min: number;
  max: number;
  step: number;
  said: string;
  onInput: (value: number) => void;
  onCommit: (value: number) => void;
}) {
  return (
    <label class="range">
      <span class="unseen">{props.label}</span>
      <input
        type="range"
        min={props.min}
        max={props.max}
        step={props.step}
        value={props.value}
        aria-valuetext={props.said}
        onInput={(event) => props.onInput(Number(event.currentTarget.value))}
        onChange={(event) => props.onCommit(Number(event.currentTarget.value))}
      />
    </label>
  );
}

type Save = (patch: Partial<Record<keyof Limits, unknown>>) => Promise<void>;

function Upload({ limits, status, save }: { limits: Limits; status: Status | null; save: Save }) {
  // An effect that followed the limit could take back what the next key had just set.
  const [moved, setMoved] = useState<number | null>(null);
  const percent = moved ?? limits.upload_percent_max;
  const capacity = status?.line?.up_capacity_bps;
  const said = `${percent} %`;
  return (
    <Card title={t(["Share of your upload", "上行份额"])}>
      <p class="big-number">{said}</p>
      <Range
        label={t(["Share of your upload", "上行份额"])}
        value={percent}
        min={0}
        max={100}
        step={5}
        said={said}
        onInput={setMoved}
        onCommit={(value) => {
          setMoved(null);
          void save({ upload_percent_max: value });
        }}
      />
      <p class="soft">
        {percent === 0
          ? t(["Nothing is sent, and nothing earned.", "不发送任何内容，也不会获得积分。"])
          : capacity
            ? t(
                [
                  "At most {rate} of your {capacity}, and less as soon as somebody at home needs it.",
                  "最多使用 {capacity} 中的 {rate}；家里有人需要时会更少。",
                ],
                {
                  rate: rate((capacity * percent) / 100),
                  capacity: rate(capacity),
                },
              )
            : t(["Less as soon as somebody at home needs it.", "家里有人需要时会更少。"])}
      </p>
    </Card>
  );
}

function Month({ limits, status, save }: { limits: Limits; status: Status | null; save: Save }) {
  const now = limits.monthly_bytes_max ?? null;
  const choices = [50, 200, 500, 1000].map((gb) => gb * GB);
  if (now !== null && !choices.includes(now)) choices.push(now);
  return (
    <Card title={t(["Each month", "每月流量"])}>
      <Choice
        legend={t(["Each month at most", "每月最多"])}
        hideLegend
        value={now ?? 0}
        onChoose={(value) => save({ monthly_bytes_max: value || null })}
        options={[
          { value: 0, title: t(["no cap", "不限"]) },
          ...choices.sort((a, b) => a - b).map((value) => ({ value, title: bytes(value) })),
        ]}
      />
      <p class="soft">
        {t(["{used} went over the line this month.", "本月已使用 {used}。"], {
          used: bytes(status?.month.bytes ?? 0),
        })}{" "}
        {now === null
          ? t(["It goes on as long as the line is idle.", "只要线路空闲就会继续。"])
          : t(["At {cap} it stops until the next month.", "达到 {cap} 后停止，下月继续。"], {
              cap: bytes(now),
            })}
      </p>
    </Card>
  );
}

function HoursGrid({ limits, save }: { limits: Limits; save: Save }) {
  const [unsaved, setUnsaved] = useState<Week | null>(null);
  const [full, setFull] = useState(false);
  const week = unsaved ?? weekOf(limits.hours);
  const short = weekdays();
  const long = weekdays("long");
  const change = (next: Week) => {
    const windows = windowsOf(next);
    setFull(windows === null);
    if (windows === null) return;
    // A week without any hour would mean always: the share of the upload says “never”.
    const saved = windows.length > 0 || hoursIn(next) > 0;
    setUnsaved(saved ? null : next);
    if (saved) void save({ hours: windows });
  };
  const set = (day: number, hours: readonly number[]) => {
    const all = hours.every((hour) => week[day]?.[hour]);
    change(
      week.map((row, at) => (at === day ? row.map((on, hour) => (hours.includes(hour) ? !all : on)) : row)),
    );
  };
  const preset = (on: (day: number, hour: number) => boolean) =>
    change(week.map((row, day) => row.map((_, hour) => on(day, hour))));
  const blocks = [0, 4, 8, 12, 16, 20];
  return (
    <Card title={t(["Hours", "时段"])}>
      <fieldset class="chips">
        <legend class="unseen">{t(["Quick choices", "快捷选择"])}</legend>
        <Button kind="plain" onClick={() => preset(() => true)}>
          {t(["always", "全天"])}
        </Button>
        <Button kind="plain" onClick={() => preset((_, hour) => hour < 7 || hour >= 22)}>
          {t(["at night", "夜间"])}
        </Button>
        <Button kind="plain" onClick={() => preset((day, hour) => day > 4 || hour < 7 || hour >= 9)}>
          {t(["not on weekday mornings", "避开工作日早晨"])}
        </Button>
      </fieldset>
      <table class="week">
        <caption class="unseen">{t(["Hours in which the device may share", "设备可以共享的时段"])}</caption>
        <thead>
          <tr>
            <td />
            {blocks.map((hour) => (
              <th key={hour} scope="col" colSpan={1}>
                {hour}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {week.map((row, day) => (
            <tr key={long[day]}>
              <th scope="row">{short[day]}</th>
              {blocks.map((hour) => {
                const hours = [0, 1, 2, 3].map((more) => hour + more);
                const on = hours.filter((one) => row[one]).length;
                return (
                  <td key={hour}>
                    <button
                      type="button"
                      class={on === 4 ? "on" : on === 0 ? "" : "part"}
                      aria-pressed={on === 4 ? "true" : on === 0 ? "false" : "mixed"}
                      aria-label={t(["{day} {from} to {to} o'clock", "{day} {from} 点至 {to} 点"], {
                        day: long[day] ?? "",
                        from: hour,
                        to: hour + 4,
                      })}
                      onClick={() => set(day, hours)}
                    >
                      {hours.map((one) => (
                        <i key={one} class={row[one] ? "on" : ""} />
                      ))}
                    </button>
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
      <p class="soft">
        {hoursIn(week) === 168
          ? t(["At any hour, by the device's clock.", "全天可用，以设备时钟为准。"])
          : t(
              [
                "{n} of 168 hours a week. In the others it serves nobody.",
                "每周 168 小时中的 {n} 小时，其余时间不提供服务。",
              ],
              {
                n: hoursIn(week),
              },
            )}
      </p>
      {full && (
        <p class="fault">{t(["That pattern is too fine for the device.", "时段过于零碎，设备无法保存。"])}</p>
      )}
      {hoursIn(week) === 0 && (
        <p class="fault">
          {t([
            "Choose at least one field; to share nothing, pause.",
            "请至少选择一格；若不想共享，请使用暂停。",
          ])}
        </p>
      )}
    </Card>
  );
}

function Disk({ limits, status, save }: { limits: Limits; status: Status | null; save: Save }) {
  const most = status?.disk
    ? Math.max(1, Math.floor((status.disk.used_bytes + status.disk.free_bytes) / GIB))
    : 64;
  const now = limits.content_bytes_max ?? status?.disk?.quota_bytes ?? 8 * GIB;
  const [moved, setMoved] = useState<number | null>(null);
  const gib = moved ?? Math.round(now / GIB);
  return (
    <Card title={t(["Disk", "磁盘"])}>
      <p class="big-number">{t(["{n} GiB", "{n} GiB"], { n: gib })}</p>
      <Range
        label={t(["Disk for files", "文件占用的磁盘"])}
        value={gib}
        min={1}
        max={Math.min(64, Math.max(most, gib))}
        step={1}
        said={`${gib} GiB`}
        onInput={setMoved}
        onCommit={(value) => {
          setMoved(null);
          void save({ content_bytes_max: value * GIB });
        }}
      />
      <p class="soft">
        {t(
          [
            "{used} are used now. With less room it keeps fewer files, and earns less.",
            "目前使用 {used}。空间越小，保存的文件越少，积分也越少。",
          ],
          {
            used: bytes(status?.content.bytes ?? 0),
          },
        )}
      </p>
    </Card>
  );
}

const SERVICES: readonly { name: string; title: Text; text: Text }[] = [
  {
    name: "object",
    title: ["Send files", "发送文件"],
    text: ["The main thing, and what earns points.", "主要服务，也是积分来源。"],
  },
  {
    name: "fill",
    title: ["Pass files to other devices", "传给其他设备"],
    text: ["Helps others begin to serve.", "帮助其他设备开始服务。"],
  },
  {
    name: "live",
    title: ["Live streams", "直播"],
    text: ["Kept for a minute or two, mostly in memory.", "只保存一两分钟，大多在内存中。"],
  },
  {
    name: "probe",
    title: ["Measurements", "测量"],
    text: [
      "Seldom asks public addresses how they are reached. Earns nothing for now.",
      "偶尔测量公网地址的可达性，目前没有积分。",
    ],
  },
];

function Services({ limits, save }: { limits: Limits; save: Save }) {
  return (
    <Card title={t(["Services", "服务"])}>
      {SERVICES.map(({ name, title, text }) => (
        <Check
          key={name}
          checked={limits.services[name] ?? true}
          onChange={(on) => save({ services: { ...limits.services, [name]: on } })}
        >
          {t(title)}
          <small class="below">{t(text)}</small>
        </Check>
      ))}
    </Card>
  );
}

export function LimitsScreen({ status }: { status: Status | null }) {
  const [limits, setLimits] = useState<Limits | null>(null);
  const [fault, setFault] = useState<Text | null>(null);
  const queue = useRef<Promise<void>>(Promise.resolve());

  const load = () =>
    call<Limits>("GET", "v1/limits")
      .then(setLimits)
      .catch((error) => setFault(problemText(error)));
  useEffect(() => {
    void load();
  }, []);
  // Shown at once and sent in turn, so that no change is lost to one before; what is refused is taken back.
  const save: Save = (patch) => {
    setLimits((before) => before && ({ ...before, ...patch } as Limits));
    queue.current = queue.current.then(() =>
      call<Limits>("PATCH", "v1/limits", patch)
        .then(() => setFault(null))
        .catch((error) => {
          setFault(problemText(error));
          return load();
        }),
    );
    return queue.current;
  };
  return (
    <main>
      <div class="title">
        <Heading>{t(["Limits", "限额"])}</Heading>
        <p class="soft">
          {t(["The device keeps to them whatever anybody else asks.", "无论别人要求什么，设备都会遵守。"])}
        </p>
      </div>
      <Fault text={fault} />
      {limits && (
        <>
          <Upload limits={limits} status={status} save={save} />
          <Month limits={limits} status={status} save={save} />
          <HoursGrid limits={limits} save={save} />
          <Disk limits={limits} status={status} save={save} />
          <Services limits={limits} save={save} />
        </>
      )}
    </main>
  );
}
