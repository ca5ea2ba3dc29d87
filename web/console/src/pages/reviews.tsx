// What looks wrong about devices, for an operator to decide.
import { useState } from "preact/hooks";
import { call, useLive } from "../api";
import { points, time } from "../format";
import {
  Badge,
  Card,
  Choice,
  type Column,
  Dialog,
  Facts,
  Form,
  Loaded,
  Notice,
  Table,
  type Tone,
} from "../parts";
import { link, type Route, turn } from "../route";
import { t } from "../words";
import { Onward } from "./listing";

export interface Review {
  id: string;
  owner: string;
  device: string;
  reason: string;
  detail: string;
  state: "open" | "cleared" | "upheld";
  at: number;
  changed_at: number;
}

const SIZE = 100;

function reasonOf(reason: string): string {
  switch (reason) {
    case "unlikely-pair":
      return t("one consumer too often", "同一用户出现过多");
    case "unlikely-share":
      return t("too large a share", "份额异常");
    case "failed-audit":
      return t("failed an audit", "抽查未通过");
    default:
      return reason;
  }
}

function stateOf(state: Review["state"]): readonly [tone: Tone, label: string] {
  if (state === "open") return ["warn", t("open", "待定")];
  return state === "cleared" ? ["good", t("cleared", "已澄清")] : ["bad", t("upheld", "已认定")];
}

export function Reviews(props: { route: Route }) {
  const { route } = props;
  const state = route.query.get("state") ?? "open";
  const after = route.query.get("after") ?? "";
  const query = new URLSearchParams({ state, limit: String(SIZE), ...(after ? { after } : {}) });
  const live = useLive<Review[]>(`ledger/v1/reviews?${query}`, 15_000);
  const [decided, setDecided] = useState<{ review: Review; outcome: "cleared" | "upheld" }>();
  const [said, setSaid] = useState("");
  const held = useLive<{ held?: number }>(
    decided ? `ledger/v1/reviews/${encodeURIComponent(decided.review.id)}` : null,
    60_000,
  ).value?.held;
  return (
    <>
      <h1>{t("Review queue", "审核队列")}</h1>
      {said && <Notice tone="good">{said}</Notice>}
      <Card title={t("Devices that look wrong", "可疑设备")}>
        <search class="filters">
          <Choice
            label={t("State", "状态")}
            value={state}
            onChoose={(wanted) => turn(route, { state: wanted === "open" ? "" : wanted, after: "" })}
            options={(["open", "cleared", "upheld"] as const).map((one) => [one, stateOf(one)[1]])}
          />
        </search>
        <Loaded live={live}>
          {(reviews) => (
            <>
              <Table
                name={t("Devices that look wrong", "可疑设备")}
                columns={columns(state === "open", (review, outcome) => setDecided({ review, outcome }))}
                rows={reviews}
                keyOf={(one) => one.id}
                empty={
                  state === "open" ? t("Nothing waits for you.", "没有待审核的项目。") : t("None.", "无。")
                }
              />
              {(after || reviews.length === SIZE) && (
                <Onward
                  route={route}
                  first={t("First", "首页")}
                  next={t("Next", "下一页")}
                  after={reviews.length < SIZE ? undefined : reviews[reviews.length - 1]?.id}
                />
              )}
            </>
          )}
        </Loaded>
      </Card>
      <Dialog
        title={
          decided?.outcome === "upheld"
            ? t("Uphold the suspicion?", "认定可疑？")
            : t("Clear the device?", "澄清该设备？")
        }
        open={decided !== undefined}
        onClose={() => setDecided(undefined)}
      >
        {decided && (
          <>
            <Facts
              of={[
                [t("Device", "设备"), <code>{decided.review.device}</code>],
                [t("Owner", "主人"), <code>{decided.review.owner}</code>],
                [t("Reason", "原因"), `${reasonOf(decided.review.reason)}: ${decided.review.detail}`],
                [t("Points still held", "尚未兑现的积分"), held === undefined ? "…" : points(held)],
              ]}
            />
            <p>
              {decided.outcome === "upheld"
                ? t(
                    "All points of this device that are still held go back to the publishers. The owner sees the reason.",
                    "该设备所有尚未兑现的积分将退还给发布者。主人会看到原因。",
                  )
                : t(
                    "Nothing is taken, for good: a cleared review stays cleared.",
                    "不扣除任何积分，且不能再改判。",
                  )}
            </p>
            <Form
              danger={decided.outcome === "upheld"}
              action={decided.outcome === "upheld" ? t("Uphold", "认定") : t("Clear", "澄清")}
              onSend={async () => {
                const told = await call<{ micro_points: number }>(
                  "POST",
                  `ledger/v1/reviews/${encodeURIComponent(decided.review.id)}/resolution`,
                  { body: { outcome: decided.outcome } },
                );
                setSaid(
                  decided.outcome === "upheld"
                    ? t("Upheld: {points} points went back.", "已认定：退还 {points} 积分。", {
                        points: points(told.micro_points),
                      })
                    : t("Cleared.", "已澄清。"),
                );
                setDecided(undefined);
                live.reload();
              }}
            />
          </>
        )}
      </Dialog>
    </>
  );
}

function columns(
  open: boolean,
  onDecide: (review: Review, outcome: "cleared" | "upheld") => void,
): Column<Review>[] {
  return [
    {
      title: t("Device", "设备"),
      cell: (one) => (
        <a href={link(["devices", one.device])}>
          <code>{one.device}</code>
        </a>
      ),
    },
    { title: t("Day", "日期"), cell: (one) => time(one.at) },
    { title: t("Reason", "原因"), cell: (one) => reasonOf(one.reason) },
    { title: t("In detail", "详情"), wide: true, cell: (one) => one.detail },
    {
      title: t("State", "状态"),
      cell: (one) => <Badge tone={stateOf(one.state)[0]}>{stateOf(one.state)[1]}</Badge>,
    },
    ...(open
      ? [
          {
            title: t("Decide", "决定"),
            cell: (one: Review) => (
              <div class="row">
                <button
                  type="button"
                  aria-label={t("Clear {device}", "澄清 {device}", { device: one.device })}
                  onClick={() => onDecide(one, "cleared")}
                >
                  {t("Clear", "澄清")}
                </button>
                <button
                  type="button"
                  class="danger"
                  aria-label={t("Uphold against {device}", "认定 {device}", { device: one.device })}
                  onClick={() => onDecide(one, "upheld")}
                >
                  {t("Uphold", "认定")}
                </button>
              </div>
            ),
          },
        ]
      : []),
  ];
}
