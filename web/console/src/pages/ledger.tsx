// The books: all points there are, where they lie, why they moved, and whether everything recomputes.
import { useState } from "preact/hooks";
import { call, useLive } from "../api";
import { Chart } from "../chart";
import { count, day, points, time } from "../format";
import { Badge, Card, Empty, Facts, Figures, Form, Loaded, Notice, Table } from "../parts";
import { t } from "../words";

interface Difference {
  what: string;
  where: string;
  stored: unknown;
  found: unknown;
}

export interface Report {
  day: number;
  at: number;
  entries: number;
  supply: number;
  places: Record<string, number>;
  moved: Record<string, number>;
  redemptions: { reserved: number; unknown: number; for_operator: number };
  settlements: number;
  booked: number;
  recomputed: number;
  unaccounted: number;
  differences: Difference[];
  difference_count: number;
  forked_devices: number;
  restores_to_review: number;
  sound: boolean;
}

interface Reconciled {
  sum: number;
  accounts: number;
  settlements: number;
  booked: number;
  recomputed: number;
  differences: Difference[];
}

interface Restores {
  restores: { at: number; backup_at: number; entries: number; reviewed_at?: number }[];
  gaps: { device: string; expected: number; seen: number; noted_at: number }[];
}

const DAY_S = 86_400;
const MINUTE_MS = 60_000;

export function Ledger() {
  const live = useLive<Report[]>("ledger/v1/reports?limit=100", MINUTE_MS);
  return (
    <>
      <h1>{t("Ledger", "账本")}</h1>
      <Loaded live={live}>
        {(reports) =>
          reports[0] ? (
            <Told reports={reports} last={reports[0]} />
          ) : (
            <Empty>{t("The first daily report is being made.", "首份日报正在生成。")}</Empty>
          )
        }
      </Loaded>
      <Reconcile />
      <RestoresCard />
    </>
  );
}

const PLACES: Record<string, readonly [en: string, zh: string]> = {
  escrow: ["publishers' escrow", "发布者托管"],
  reserved: ["lent to tickets", "已借给票据"],
  held: ["owners', held back", "主人的待兑现积分"],
  vested: ["owners', redeemable", "主人的可兑换积分"],
  redeeming: ["being redeemed", "兑换中"],
  redeemed: ["redeemed", "已兑换"],
};
const MOVES: Record<string, readonly [en: string, zh: string]> = {
  deposit: ["deposited", "存入"],
  reservation: ["lent to tickets", "借给票据"],
  release: ["given back", "退回"],
  settlement: ["earned", "赚取"],
  vesting: ["became redeemable", "转为可兑换"],
  redemption: ["being redeemed", "兑换"],
  fulfilment: ["redeemed", "兑换完成"],
  voiding: ["redemption undone", "兑换撤销"],
  clawback: ["clawed back", "追回"],
};

export function placeOf(name: string): string {
  const known = PLACES[name];
  return known ? t(known[0], known[1]) : name;
}

export function moveOf(name: string): string {
  const known = MOVES[name];
  return known ? t(known[0], known[1]) : name;
}

function Told(props: { reports: Report[]; last: Report }) {
  const { last } = props;
  const rising = [...props.reports].reverse();
  return (
    <>
      {last.sound ? (
        <Notice tone="good">
          {t(
            "Everything recomputed on {day}: {n} settlements, no difference.",
            "{day} 全部核对一致：{n} 笔结算，无差异。",
            {
              day: day(last.day),
              n: count(last.settlements),
            },
          )}
        </Notice>
      ) : (
        <Notice tone="bad">
          {t(
            "The books do not reconcile on {day}: {n} differences. Nothing is paid out wrongly by looking; see docs/operating.md.",
            "{day} 的账目对不上：{n} 处差异。请参阅 docs/operating.md。",
            { day: day(last.day), n: count(last.difference_count) },
          )}
        </Notice>
      )}
      <Figures
        of={[
          [t("All points", "积分总量"), points(last.supply), day(last.day)],
          [t("Unaccounted", "去向不明"), points(last.unaccounted)],
          [t("Entries", "账目条数"), count(last.entries)],
          [
            t("Redemptions to decide", "待处理的兑换"),
            count(last.redemptions.for_operator),
            t("{n} unknown", "{n} 笔结果未知", { n: count(last.redemptions.unknown) }),
          ],
          [t("Devices with a forked chain", "链分叉的设备"), count(last.forked_devices)],
        ]}
      />
      <div class="columns">
        <Card title={t("Where points lie", "积分分布")}>
          <Facts of={Object.entries(last.places).map(([name, value]) => [placeOf(name), points(value)])} />
        </Card>
        <Card title={t("Why they moved that day", "当日变动原因")}>
          {Object.keys(last.moved).length === 0 ? (
            <Empty>{t("Nothing moved.", "没有变动。")}</Empty>
          ) : (
            <Facts of={Object.entries(last.moved).map(([name, value]) => [moveOf(name), points(value)])} />
          )}
        </Card>
      </div>
      {rising.length > 1 && (
        <Card title={t("Supply over time", "积分总量变化")}>
          <Chart
            label={t("All points, and those that owners have", "积分总量与主人持有量")}
            at={rising.map((one) => (one.day + 1) * DAY_S)}
            series={[
              { label: t("all points", "积分总量"), tone: "leaf", values: rising.map((one) => one.supply) },
              {
                label: t("owners'", "主人持有"),
                tone: "sun",
                values: rising.map((one) => (one.places.held ?? 0) + (one.places.vested ?? 0)),
              },
            ]}
            unit={points}
          />
        </Card>
      )}
      <Differences of={last.differences} />
    </>
  );
}

function Differences(props: { of: Difference[] }) {
  if (props.of.length === 0) return null;
  return (
    <Card title={t("Differences", "差异")}>
      <Table
        name={t("Differences", "差异")}
        columns={[
          { title: t("What", "项目"), cell: (one) => one.what },
          { title: t("Where", "位置"), cell: (one) => <code>{one.where}</code> },
          {
            title: t("Stored", "账面"),
            wide: true,
            cell: (one) => <code>{JSON.stringify(one.stored)}</code>,
          },
          {
            title: t("Computed", "核算"),
            wide: true,
            cell: (one) => <code>{JSON.stringify(one.found)}</code>,
          },
        ]}
        rows={props.of}
        keyOf={(one) => `${one.what} ${one.where}`}
      />
    </Card>
  );
}

function Reconcile() {
  const [told, setTold] = useState<Reconciled>();
  return (
    <Card title={t("Reconcile now", "立即核对")}>
      <p class="soft">
        {t(
          "Computes everything that was ever booked again from what devices sent. It may take a while.",
          "根据设备提交的原始凭据重新计算所有账目，可能需要一些时间。",
        )}
      </p>
      <Form
        action={t("Reconcile", "核对")}
        onSend={async () => {
          setTold(undefined);
          setTold(await call<Reconciled>("GET", "ledger/v1/reconciliation"));
        }}
      >
        {told && (
          <>
            <p>
              {told.differences.length === 0 && told.sum === 0 && told.booked === told.recomputed ? (
                <Badge tone="good">{t("everything recomputes", "全部一致")}</Badge>
              ) : (
                <Badge tone="bad">
                  {t("{n} differences", "{n} 处差异", { n: count(told.differences.length) })}
                </Badge>
              )}
            </p>
            <Facts
              of={[
                [t("Accounts", "账户"), count(told.accounts)],
                [t("Settlements", "结算"), count(told.settlements)],
                [
                  t("Booked / computed again", "入账/重算"),
                  `${points(told.booked)} / ${points(told.recomputed)}`,
                ],
                [t("Sum of all entries", "全部账目之和"), points(told.sum)],
              ]}
            />
          </>
        )}
      </Form>
      {told && <Differences of={told.differences} />}
    </Card>
  );
}

function RestoresCard() {
  const live = useLive<Restores>("ledger/v1/restores", MINUTE_MS);
  const restores = live.value?.restores ?? [];
  if (restores.length === 0) return null;
  return (
    <Card title={t("Restores from a backup", "从备份恢复")}>
      {restores.map((one) => (
        <div key={one.at}>
          <Facts
            of={[
              [t("Restored", "恢复时间"), time(one.at)],
              [t("Backup of", "备份时间"), time(one.backup_at)],
              [
                t("Reviewed", "已审阅"),
                one.reviewed_at ? time(one.reviewed_at) : t("no: redemptions rest", "否：兑换暂停"),
              ],
            ]}
          />
          {!one.reviewed_at && (
            <Form
              action={t("I have reviewed it; let redemptions go on", "已审阅，恢复兑换")}
              onSend={async () => {
                await call("POST", `ledger/v1/restores/${one.at}/review`);
                live.reload();
              }}
            />
          )}
        </div>
      ))}
    </Card>
  );
}
