// Accounts of owners, publishers and operators: making them, their tokens, and publishers' deposits.
import { useState } from "preact/hooks";
import { call, onceKey, useLive } from "../api";
import { count, microPoints, points, short, time } from "../format";
import {
  Badge,
  Card,
  Choice,
  type Column,
  Dialog,
  Facts,
  Field,
  Form,
  Loaded,
  Notice,
  Secret,
} from "../parts";
import { link, type Route, turn } from "../route";
import { t } from "../words";
import { ListCard, useListing } from "./listing";

interface AccountRow {
  id: string;
  role: string;
  name: string;
  created_at: number;
  tokens: number;
  devices: number;
}

interface Issued {
  id: string;
  name: string;
  token: string;
}

interface Balances {
  escrow?: number;
  reserved?: number;
  spent?: number;
  held?: number;
  vested?: number;
  redeeming?: number;
  redeemed?: number;
}

const ROLES = ["owner", "publisher", "operator"];

function roleOf(role: string): string {
  if (role === "owner") return t("owner", "设备主人");
  if (role === "publisher") return t("publisher", "发布者");
  return role === "operator" ? t("operator", "运营者") : role;
}

export function Accounts(props: { route: Route }) {
  const { route } = props;
  const listing = useListing<{ total: number; accounts: AccountRow[] }>("accounts", route, "-created_at", [
    "role",
  ]);
  const { live } = listing;
  const [issued, setIssued] = useState<Issued>();
  const [opened, setOpened] = useState<AccountRow>();
  return (
    <>
      <h1>{t("Accounts", "账户")}</h1>
      {issued && (
        <Notice tone="good">
          {t(
            "The token of {name} ({id}). It is shown only now; give it to them safely.",
            "{name}（{id}）的令牌，仅显示这一次，请妥善转交。",
            {
              name: issued.name,
              id: issued.id,
            },
          )}
          <Secret value={issued.token} />
        </Notice>
      )}
      <Create
        onIssued={(made) => {
          setIssued(made);
          live.reload();
        }}
      />
      <ListCard
        title={t("All accounts", "全部账户")}
        of={listing}
        search={t("Search by name or id", "按名称或编号搜索")}
        filters={
          <Choice
            label={t("Role", "角色")}
            value={route.query.get("role") ?? ""}
            onChoose={(role) => turn(route, { role, page: 0 })}
            options={[["", t("all", "全部")], ...ROLES.map((role): [string, string] => [role, roleOf(role)])]}
          />
        }
        rowsOf={(told) => told.accounts}
        columns={columns(setOpened)}
        keyOf={(row) => row.id}
        empty={t("No account fits.", "没有符合条件的账户。")}
      />
      <Dialog title={opened?.name ?? ""} open={opened !== undefined} onClose={() => setOpened(undefined)}>
        {opened && (
          <Opened
            account={opened}
            onIssued={(made) => {
              setIssued(made);
              setOpened(undefined);
              live.reload();
            }}
            onRevoked={() => {
              setOpened(undefined);
              live.reload();
            }}
          />
        )}
      </Dialog>
    </>
  );
}

function columns(onOpen: (row: AccountRow) => void): Column<AccountRow>[] {
  return [
    {
      title: t("Name", "名称"),
      sort: "name",
      cell: (row) => (
        <button type="button" class="as-link" onClick={() => onOpen(row)}>
          {row.name}
        </button>
      ),
    },
    { title: t("Role", "角色"), sort: "role", cell: (row) => <Badge tone="plain">{roleOf(row.role)}</Badge> },
    { title: t("Id", "编号"), sort: "id", cell: (row) => <code>{row.id}</code> },
    {
      title: t("Devices", "设备"),
      sort: "devices",
      number: true,
      cell: (row) =>
        row.devices > 0 ? (
          <a href={link(["fleet"], { owner: row.id })}>{count(row.devices)}</a>
        ) : (
          count(row.devices)
        ),
    },
    { title: t("Tokens", "令牌"), sort: "tokens", number: true, cell: (row) => count(row.tokens) },
    { title: t("Since", "创建时间"), sort: "created_at", cell: (row) => time(row.created_at) },
  ];
}

function Create(props: { onIssued: (issued: Issued) => void }) {
  const [role, setRole] = useState("owner");
  const [name, setName] = useState("");
  return (
    <Card title={t("New account", "新建账户")}>
      <Form
        action={t("Create", "创建")}
        onSend={async () => {
          props.onIssued(await call<Issued>("POST", "/v1/accounts", { body: { role, name: name.trim() } }));
          setName("");
        }}
      >
        <div class="filters">
          <Choice
            label={t("Role", "角色")}
            value={role}
            onChoose={setRole}
            options={ROLES.map((one): [string, string] => [one, roleOf(one)])}
          />
          <Field label={t("Name", "名称")} value={name} onInput={setName} required maxLength={128} />
        </div>
      </Form>
    </Card>
  );
}

interface OpenedProps {
  account: AccountRow;
  onIssued: (issued: Issued) => void;
  onRevoked: () => void;
}

function Opened(props: OpenedProps) {
  const { account } = props;
  const path = `/v1/accounts/${encodeURIComponent(account.id)}`;
  const live = useLive<Balances>(account.role === "operator" ? null : `ledger${path}`, 15_000);
  const [revoking, setRevoking] = useState(false);
  return (
    <>
      <Facts
        of={[
          [t("Role", "角色"), roleOf(account.role)],
          [t("Id", "编号"), <code>{account.id}</code>],
          [t("Tokens", "令牌"), count(account.tokens)],
        ]}
      />
      {account.role !== "operator" && <Loaded live={live}>{(told) => <BalanceFacts of={told} />}</Loaded>}
      {account.role === "publisher" && <Deposit publisher={account.id} onDone={live.reload} />}
      <h3>{t("Tokens", "令牌")}</h3>
      <Form
        action={t("Issue a further token", "再签发一个令牌")}
        onSend={async () => props.onIssued(await call<Issued>("POST", `${path}/tokens`))}
      />
      <p>
        <button type="button" class="danger" onClick={() => setRevoking(!revoking)} aria-expanded={revoking}>
          {t("Revoke all tokens…", "吊销全部令牌…")}
        </button>
      </p>
      {revoking && (
        <Form
          danger
          action={t("Revoke all now", "立即吊销")}
          onSend={async () => {
            await call("DELETE", `${path}/tokens`);
            props.onRevoked();
          }}
        >
          <Notice tone="warn">
            {t(
              "Whoever signs in with them, here or by `fallow`, can do so no longer. Sessions end at once.",
              "使用这些令牌的登录和 fallow 命令将全部失效，会话立即结束。",
            )}
          </Notice>
        </Form>
      )}
    </>
  );
}

export function BalanceFacts(props: { of: Balances }) {
  const names: [keyof Balances, string][] = [
    ["escrow", t("Escrow, free", "可用托管积分")],
    ["reserved", t("Lent to tickets", "已借给票据")],
    ["spent", t("Spent", "已支出")],
    ["held", t("Held back", "待兑现")],
    ["vested", t("Redeemable", "可兑换")],
    ["redeeming", t("Being redeemed", "兑换中")],
    ["redeemed", t("Redeemed", "已兑换")],
  ];
  return (
    <Facts
      of={names.flatMap(([name, label]): [string, string][] => {
        const value = props.of[name];
        return value === undefined ? [] : [[label, points(value)]];
      })}
    />
  );
}

function Deposit(props: { publisher: string; onDone: () => void }) {
  const [amount, setAmount] = useState("");
  const [said, setSaid] = useState("");
  // The same wish keeps its key, however often it has to be sent.
  const [once, setOnce] = useState(onceKey);
  const micro = microPoints(amount);
  return (
    <>
      <h3>{t("Deposit", "存入积分")}</h3>
      {said && <Notice tone="good">{said}</Notice>}
      <Form
        action={t("Deposit", "存入")}
        disabled={micro === undefined}
        onSend={async () => {
          await call("POST", "ledger/v1/deposits", {
            body: { publisher: props.publisher, micro_points: micro },
            headers: { "Idempotency-Key": once },
          });
          setOnce(onceKey());
          setSaid(
            t("{points} points are in the escrow of {id}.", "{points} 积分已存入 {id} 的托管。", {
              points: points(micro ?? 0),
              id: short(props.publisher, 14),
            }),
          );
          setAmount("");
          props.onDone();
        }}
      >
        <Field
          label={t("Points", "积分")}
          value={amount}
          onInput={(text) => {
            setAmount(text);
            setOnce(onceKey());
            setSaid("");
          }}
          fault={
            amount && micro === undefined
              ? t("A number above 0 is wanted.", "请填写大于 0 的数字。")
              : undefined
          }
        />
      </Form>
    </>
  );
}
