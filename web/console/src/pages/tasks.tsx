// Network tasks, newest first.
import { useLive } from "../api";
import { count, short, time } from "../format";
import { Badge, Card, Choice, type Column, Loaded, Table } from "../parts";
import { link, type Route, turn } from "../route";
import { kindOf, reasonOf, taskState } from "../task_words";
import { t } from "../words";
import { Onward } from "./listing";

export interface TaskTold {
  id: string;
  kind: string;
  object?: string;
  state: string;
  replicas: number;
  deadline: number;
  created_at: number;
  publisher?: string;
  reason?: string;
  parameters?: Record<string, string>;
  needs?: Record<string, unknown>;
  placements: { device: string; state: string; bytes_done: number; reason?: string }[];
  waiting?: Record<string, number>;
}

const SIZE = 50;
const STATES = ["pending", "placed", "running", "done", "failed", "expired", "cancelled"];

export function Tasks(props: { route: Route; publishes: boolean }) {
  const { route } = props;
  const after = route.query.get("after") ?? "";
  const state = route.query.get("state") ?? "";
  const query = new URLSearchParams({ order: "newest", limit: String(SIZE) });
  if (after) query.set("after", after);
  if (state) query.set("state", state);
  const live = useLive<TaskTold[]>(`/v1/tasks?${query}`);
  return (
    <>
      <h1>{t("Tasks", "任务")}</h1>
      <Card title={t("Newest first", "最新在前")}>
        <search class="filters">
          <Choice
            label={t("State", "状态")}
            value={state}
            onChoose={(wanted) => turn(route, { state: wanted, after: "" })}
            options={[
              ["", t("all", "全部")],
              ...STATES.map((one): [string, string] => [one, taskState(one)[1]]),
            ]}
          />
        </search>
        <Loaded live={live}>
          {(tasks) => (
            <>
              <Table
                name={t("Tasks", "任务")}
                columns={columns(!props.publishes)}
                rows={tasks}
                keyOf={(task) => task.id}
                empty={
                  props.publishes
                    ? t(
                        "No task. Files are copied to devices by themselves; `fallow tasks add` asks for more.",
                        "没有任务。文件会自动复制到设备；更多任务可用 fallow tasks add 创建。",
                      )
                    : t("No task.", "没有任务。")
                }
              />
              <Onward
                route={route}
                first={t("Newest", "最新")}
                next={t("Older", "更早")}
                after={tasks.length < SIZE ? undefined : tasks[tasks.length - 1]?.id}
              />
            </>
          )}
        </Loaded>
      </Card>
    </>
  );
}

function columns(withPublisher: boolean): Column<TaskTold>[] {
  return [
    {
      title: t("Task", "任务"),
      cell: (task) => (
        <a href={link(["tasks", task.id])}>
          {kindOf(task.kind)} <code>{task.id.slice(-6)}</code>
        </a>
      ),
    },
    {
      title: t("State", "状态"),
      cell: (task) => <Badge tone={taskState(task.state)[0]}>{taskState(task.state)[1]}</Badge>,
    },
    {
      title: t("About", "对象"),
      cell: (task) =>
        task.object ? (
          <code title={task.object}>{short(task.object)}</code>
        ) : (
          (task.parameters?.target ?? "–")
        ),
    },
    {
      title: t("Devices done", "完成设备"),
      number: true,
      cell: (task) =>
        `${count(task.placements.filter((one) => one.state === "done").length)} / ${count(task.replicas)}`,
    },
    { title: t("Reason", "原因"), wide: true, cell: (task) => (task.reason ? reasonOf(task.reason) : "–") },
    ...(withPublisher
      ? [
          {
            title: t("Publisher", "发布者"),
            cell: (task: TaskTold) => <code>{short(task.publisher ?? "", 12)}</code>,
          },
        ]
      : []),
    { title: t("Created", "创建时间"), cell: (task) => time(task.created_at) },
  ];
}
