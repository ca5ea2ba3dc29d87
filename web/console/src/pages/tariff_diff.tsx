// What a proposed tariff changes, and what it would have paid last week.
import { count, points, share, time } from "../format";
import { Figures, Table } from "../parts";
import { t } from "../words";

interface OwnerChange {
  owner: string;
  settlements: number;
  paid: number;
  would: number;
  more_permille?: number;
  less_permille?: number;
}

export interface Diff {
  from_at: number;
  until_at: number;
  settlements: number;
  paid: number;
  would: number;
  capped: number;
  owner_count: number;
  owners: OwnerChange[];
}

export function Changes(props: { of: [path: string, before: string, after: string][] }) {
  if (props.of.length === 0)
    return <p class="soft">{t("Nothing differs from the newest tariff.", "与最新资费相同。")}</p>;
  return (
    <Table
      name={t("Changes against the newest tariff", "与最新资费的差异")}
      columns={[
        {
          title: t("Changed, as the ledger keeps it", "更改项（账本单位）"),
          cell: ([path]) => <code>{path}</code>,
        },
        { title: t("Newest tariff", "最新资费"), number: true, cell: ([, before]) => before },
        { title: t("This one", "新资费"), number: true, cell: ([, , after]) => after },
      ]}
      rows={props.of}
      keyOf={([path]) => path}
    />
  );
}

function changed(paid: number, would: number): string {
  if (paid === 0) return would === 0 ? "±0 %" : t("new", "新增");
  const by = (would - paid) / paid;
  return `${by >= 0 ? "+" : "−"}${share(Math.abs(by))}`;
}

export function Compared(props: { told: Diff }) {
  const { told } = props;
  return (
    <>
      <h2>
        {t("What it would have paid from {from} to {until}", "{from} 至 {until} 按新资费应付", {
          from: time(told.from_at),
          until: time(told.until_at),
        })}
      </h2>
      <Figures
        of={[
          [t("Was paid", "实付"), points(told.paid)],
          [t("Would have been", "按新资费"), points(told.would), changed(told.paid, told.would)],
          [t("Settlements", "结算笔数"), count(told.settlements)],
          [t("Owners", "主人数"), count(told.owner_count)],
          [t("Left out by lower caps", "因上限降低而不付"), count(told.capped)],
        ]}
      />
      <Table
        name={t("By owner", "按主人")}
        columns={[
          { title: t("Owner", "主人"), cell: (one) => <code>{one.owner}</code> },
          { title: t("Settlements", "结算笔数"), number: true, cell: (one) => count(one.settlements) },
          { title: t("Was paid", "实付"), number: true, cell: (one) => points(one.paid) },
          { title: t("Would have been", "按新资费"), number: true, cell: (one) => points(one.would) },
          { title: t("Change", "变化"), number: true, cell: (one) => changed(one.paid, one.would) },
        ]}
        rows={told.owners}
        keyOf={(one) => one.owner}
        empty={t("Nothing was settled in the last week.", "上周没有结算。")}
      />
      {told.owner_count > told.owners.length && (
        <p class="soft">
          {t(
            "The first {n} owners; `fallow operator tariff diff` shows all.",
            "仅显示前 {n} 位主人；fallow operator tariff diff 可显示全部。",
            { n: told.owners.length },
          )}
        </p>
      )}
    </>
  );
}
