// One task: where it is, and why: who was refused by what, and how the others compared.
import { useState } from "preact/hooks";
import { call, useLive } from "../api";
import { bytes, count, time } from "../format";
import { Badge, Card, type Column, Dialog, Facts, Form, Loaded, Table } from "../parts";
import { link } from "../route";
import { kindOf, needsOf, partOf, reasonOf, taskState } from "../task_words";
import { t } from "../words";
import type { TaskTold } from "./tasks";

interface Decision {
  decided_at: number;
  wanted: number;
  considered: number;
  candidates: number;
  refused: Record<string, { devices: number; for_example: string[] }>;
  best: { device: string; chosen: boolean; score_permille: Record<string, number> }[];
}

interface Why {
  decisions: Decision[];
  now?: Decision;
}

const OPEN = new Set(["pending", "placed", "running"]);

export function Task(props: { id: string; publishes: boolean }) {
  const path = `/v1/tasks/${encodeURIComponent(props.id)}`;
  const live = useLive<TaskTold>(path);
  const why = useLive<Why>(`${path}/why`);
  const [cancelling, setCancelling] = useState(false);
  return (
    <>
      <p>
        <a href={link(["tasks"])}>{t("← All tasks", "← 全部任务")}</a>
      </p>
      <Loaded live={live}>
        {(task) => (
          <>
            <h1>
              {kindOf(task.kind)} <Badge tone={taskState(task.state)[0]}>{taskState(task.state)[1]}</Badge>
            </h1>
            <div class="columns">
              <Card title={t("What is wanted", "要求")}>
                <Facts
                  of={[
                    [t("Task", "任务"), <code>{task.id}</code>],
                    ...(task.publisher
                      ? ([[t("Publisher", "发布者"), <code>{task.publisher}</code>]] as const)
                      : []),
                    ...(task.object ? ([[t("File", "文件"), <code>{task.object}</code>]] as const) : []),
                    [t("Devices", "设备数"), count(task.replicas)],
                    [t("Created", "创建时间"), time(task.created_at)],
                    [t("Until", "截止时间"), time(task.deadline)],
                    ...Object.entries(task.parameters ?? {}),
                    ...needsOf(task.needs ?? {}),
                    ...(task.reason ? ([[t("Reason", "原因"), reasonOf(task.reason)]] as const) : []),
                  ]}
                />
                {OPEN.has(task.state) && (
                  <button type="button" class="danger" onClick={() => setCancelling(true)}>
                    {t("Cancel this task", "取消此任务")}
                  </button>
                )}
              </Card>
              <Card title={t("Devices that were asked", "已分配的设备")}>
                <Table
                  name={t("Devices that were asked", "已分配的设备")}
                  columns={placements(!props.publishes)}
                  rows={task.placements}
                  keyOf={(one) => one.device}
                  empty={t("None yet.", "暂无。")}
                />
              </Card>
            </div>
          </>
        )}
      </Loaded>
      <Loaded live={why}>
        {(told) => (
          <>
            {told.now && (
              <Reasons
                title={t("As it would be decided now", "按当前情况的判断")}
                of={told.now}
                linked={!props.publishes}
              />
            )}
            {told.decisions.map((decision) => (
              <Reasons
                key={decision.decided_at}
                title={t("Decided on {at}", "{at} 的决定", { at: time(decision.decided_at) })}
                of={decision}
                linked={!props.publishes}
              />
            ))}
          </>
        )}
      </Loaded>
      <Dialog
        title={t("Cancel this task?", "取消此任务？")}
        open={cancelling}
        onClose={() => setCancelling(false)}
      >
        <p>
          {t(
            "Devices stop what they have under way for it; copies that are made already stay.",
            "设备会停止正在进行的工作；已完成的副本会保留。",
          )}{" "}
          {!props.publishes &&
            t("It is a publisher's; they see it as cancelled.", "这是发布者的任务，对方会看到它已被取消。")}
        </p>
        <Form
          danger
          action={t("Cancel it", "确认取消")}
          onSend={async () => {
            await call("DELETE", path);
            setCancelling(false);
            live.reload();
          }}
        />
      </Dialog>
    </>
  );
}

function deviceCell(device: string, linked: boolean) {
  const name = <code>{device}</code>;
  return linked ? <a href={link(["devices", device])}>{name}</a> : name;
}

function placements(linked: boolean): Column<TaskTold["placements"][number]>[] {
  return [
    { title: t("Device", "设备"), cell: (one) => deviceCell(one.device, linked) },
    {
      title: t("State", "状态"),
      cell: (one) => <Badge tone={taskState(one.state)[0]}>{taskState(one.state)[1]}</Badge>,
    },
    { title: t("Done", "已完成"), number: true, cell: (one) => bytes(one.bytes_done) },
    { title: t("Reason", "原因"), cell: (one) => (one.reason ? reasonOf(one.reason) : "–") },
  ];
}

function Reasons(props: { title: string; of: Decision; linked: boolean }) {
  const { of, linked } = props;
  const refused = Object.entries(of.refused).sort((one, other) => other[1].devices - one[1].devices);
  const parts = [...new Set(of.best.flatMap((one) => Object.keys(one.score_permille)))].sort(
    (one, other) => Number(other === "value") - Number(one === "value"),
  );
  return (
    <Card title={props.title}>
      <p>
        {t(
          "{considered} devices were looked at, {candidates} could do it, {wanted} were wanted.",
          "共考察 {considered} 台设备，其中 {candidates} 台可以承担，需要 {wanted} 台。",
          { considered: count(of.considered), candidates: count(of.candidates), wanted: count(of.wanted) },
        )}
      </p>
      {refused.length > 0 && (
        <Table
          name={t("{title}: left out", "{title}：未入选", { title: props.title })}
          columns={[
            { title: t("Left out because", "未入选原因"), cell: ([reason]) => reasonOf(reason) },
            { title: t("Devices", "设备数"), number: true, cell: ([, told]) => count(told.devices) },
            {
              title: t("Such as", "例如"),
              cell: ([, told]) =>
                told.for_example.map((one) => <div key={one}>{deviceCell(one, linked)}</div>),
            },
          ]}
          rows={refused}
          keyOf={([reason]) => reason}
        />
      )}
      {of.best.length > 0 && (
        <Table
          name={t("{title}: compared", "{title}：比较", { title: props.title })}
          columns={[
            { title: t("Device", "设备"), cell: (one) => deviceCell(one.device, linked) },
            {
              title: t("Asked", "已选中"),
              cell: (one) => (one.chosen ? <Badge tone="good">{t("yes", "是")}</Badge> : "–"),
            },
            ...parts.map((part) => ({
              title: partOf(part),
              number: true,
              cell: (one: Decision["best"][number]) => {
                const value = one.score_permille[part];
                return value === undefined ? "–" : (value / 1000).toFixed(2);
              },
            })),
          ]}
          rows={of.best}
          keyOf={(one) => one.device}
        />
      )}
    </Card>
  );
}
