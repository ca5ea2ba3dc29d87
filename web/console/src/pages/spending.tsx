// A publisher's points: what is left, and what was spent on what, month by month.
import { useEffect, useState } from "preact/hooks";
import { send, useLive } from "../api";
import { bytes, count, points } from "../format";
import { Card, Choice, Empty, Figures, Loaded, Notice, Table, Trouble } from "../parts";
import { payloadOf } from "../tariff";
import { language, t } from "../words";
import { moveOf, placeOf } from "./ledger";

interface Balances {
  escrow: number;
  reserved: number;
  spent: number;
}

interface Month {
  month: string;
  complete: boolean;
}

interface Statement {
  month: string;
  opening: Record<string, number>;
  closing: Record<string, number>;
  lines: { balance: string; kind: string; direction: "in" | "out"; entries: number; micro_points: number }[];
  services: { service: string; tier: string; settlements: number; bytes: number; micro_points: number }[];
}

export function Spending() {
  const live = useLive<Balances>("ledger/v1/accounts/me", 15_000);
  const months = useLive<Month[]>("ledger/v1/accounts/me/statements", 60_000);
  return (
    <>
      <h1>{t("Points and spending", "积分与支出")}</h1>
      <Loaded live={live}>
        {(told) => (
          <>
            {told.escrow === 0 && (
              <Notice tone="warn">
                {t(
                  "No free points are left: consumers are served by this server alone. Ask the operator for a deposit.",
                  "已没有可用积分：用户只能由本服务器提供服务。请联系运营者存入积分。",
                )}
              </Notice>
            )}
            <Figures
              of={[
                [t("Escrow, free", "可用托管积分"), points(told.escrow)],
                [
                  t("Lent to tickets", "已借给票据"),
                  points(told.reserved),
                  t("what they do not use comes back", "未用完的会退回"),
                ],
                [t("Spent", "已支出"), points(told.spent)],
              ]}
            />
          </>
        )}
      </Loaded>
      <Loaded live={months}>
        {(list) =>
          list.length === 0 ? (
            <Empty>{t("Nothing was booked yet.", "还没有账目。")}</Empty>
          ) : (
            <Statements months={[...list].reverse()} />
          )
        }
      </Loaded>
    </>
  );
}

function Statements(props: { months: Month[] }) {
  const [month, setMonth] = useState(props.months[0]?.month ?? "");
  const [told, setTold] = useState<Statement>();
  const [trouble, setTrouble] = useState<unknown>();
  const path = `ledger/v1/accounts/me/statements/${month}`;
  useEffect(() => {
    const stop = new AbortController();
    setTold(undefined);
    setTrouble(undefined);
    send("GET", path, { signal: stop.signal })
      .then(async (response) => setTold(payloadOf<Statement>(await response.text())))
      .catch((error: unknown) => {
        if (!stop.signal.aborted) setTrouble(error);
      });
    return () => stop.abort();
  }, [path]);
  const save = async (format: "csv" | "jwt") => {
    const response = await send("GET", `${path}?format=${format}&lang=${language()}`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = `fallow-${month}.${format}`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <Card
      title={t("Statement", "对账单")}
      aside={
        <Choice
          label={t("Month (UTC)", "月份（UTC）")}
          value={month}
          onChoose={setMonth}
          options={props.months.map((one): [string, string] => [
            one.month,
            one.complete ? one.month : t("{month}, until now", "{month}（至今）", { month: one.month }),
          ])}
        />
      }
    >
      <Trouble of={trouble} />
      {told && (
        <>
          <Table
            name={t("Spent on", "支出用途")}
            columns={[
              { title: t("Service", "服务"), cell: (one) => one.service },
              { title: t("Tier", "等级"), cell: (one) => one.tier },
              { title: t("Tickets", "票据"), number: true, cell: (one) => count(one.settlements) },
              { title: t("Delivered", "交付量"), number: true, cell: (one) => bytes(one.bytes) },
              { title: t("Points", "积分"), number: true, cell: (one) => points(one.micro_points) },
            ]}
            rows={told.services}
            keyOf={(one) => `${one.service} ${one.tier}`}
            empty={t("Nothing was spent in this month.", "本月没有支出。")}
          />
          <Table
            name={t("Movements", "变动")}
            columns={[
              { title: t("Balance", "余额"), cell: (one) => placeOf(one.balance) },
              { title: t("Movement", "变动"), cell: (one) => moveOf(one.kind) },
              { title: t("Entries", "条数"), number: true, cell: (one) => count(one.entries) },
              {
                title: t("Points", "积分"),
                number: true,
                cell: (one) => `${one.direction === "in" ? "+" : "−"}${points(one.micro_points)}`,
              },
            ]}
            rows={told.lines}
            keyOf={(one) => `${one.balance} ${one.kind} ${one.direction}`}
          />
        </>
      )}
      <div class="row">
        <button type="button" onClick={() => save("csv").catch(setTrouble)}>
          {t("Save as a table (CSV)", "保存为表格（CSV）")}
        </button>
        <button type="button" onClick={() => save("jwt").catch(setTrouble)}>
          {t("Save as signed by the ledger", "保存账本签名文件")}
        </button>
      </div>
    </Card>
  );
}
