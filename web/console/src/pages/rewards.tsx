// The catalogue of rewards, and redemptions that wait for the operator.
import { useState } from "preact/hooks";
import { call, useLive } from "../api";
import { count, microPoints, points, short, time } from "../format";
import { Card, Choice, type Column, Dialog, Field, Form, Loaded, Notice, Secret, Table } from "../parts";
import { t } from "../words";

interface Reward {
  id: string;
  title: string;
  micro_points: number;
  stock?: number;
  terms?: string;
}

interface Redemption {
  id: string;
  owner: string;
  reward: string;
  micro_points: number;
  state: string;
  reason?: string;
  created_at?: number;
}

export function Rewards() {
  const live = useLive<Reward[]>("ledger/v1/rewards", 15_000);
  const [chosen, setChosen] = useState<{ reward: Reward; what: "stock" | "withdraw" }>();
  const close = () => setChosen(undefined);
  return (
    <>
      <h1>{t("Rewards", "奖励")}</h1>
      <Card title={t("Offered", "可兑换的奖励")}>
        <Loaded live={live}>
          {(rewards) => (
            <Table
              name={t("Offered", "可兑换的奖励")}
              columns={columns((reward, what) => setChosen({ reward, what }))}
              rows={rewards}
              keyOf={(one) => one.id}
              empty={t("Nothing is offered yet.", "还没有奖励。")}
            />
          )}
        </Loaded>
      </Card>
      <Add onAdded={live.reload} />
      <Redemptions rewards={live.value ?? []} />
      <Dialog
        title={t("More of {title}", "为 {title} 补货", { title: chosen?.reward.title ?? "" })}
        open={chosen?.what === "stock"}
        onClose={close}
      >
        {chosen && (
          <Stock
            reward={chosen.reward}
            onDone={() => {
              close();
              live.reload();
            }}
          />
        )}
      </Dialog>
      <Dialog
        title={t("Withdraw {title}?", "下架 {title}？", { title: chosen?.reward.title ?? "" })}
        open={chosen?.what === "withdraw"}
        onClose={close}
      >
        <p>
          {t("It is no longer offered. What was redeemed before goes on.", "不再提供。此前的兑换不受影响。")}
        </p>
        <Form
          danger
          action={t("Withdraw", "下架")}
          onSend={async () => {
            await call("DELETE", `ledger/v1/rewards/${encodeURIComponent(chosen?.reward.id ?? "")}`);
            close();
            live.reload();
          }}
        />
      </Dialog>
    </>
  );
}

function columns(onChoose: (reward: Reward, what: "stock" | "withdraw") => void): Column<Reward>[] {
  return [
    { title: t("Reward", "奖励"), cell: (one) => one.title },
    { title: t("Price in points", "所需积分"), number: true, cell: (one) => points(one.micro_points) },
    {
      title: t("Left", "库存"),
      number: true,
      cell: (one) => (one.stock === undefined ? t("without limit", "不限") : count(one.stock)),
    },
    { title: t("Terms", "条款"), wide: true, cell: (one) => one.terms ?? "–" },
    {
      title: t("Change", "更改"),
      cell: (one) => (
        <div class="row">
          {one.stock !== undefined && (
            <button
              type="button"
              aria-label={t("More of {title}", "为 {title} 补货", { title: one.title })}
              onClick={() => onChoose(one, "stock")}
            >
              {t("More", "补货")}
            </button>
          )}
          <button
            type="button"
            class="danger"
            aria-label={t("Withdraw {title}", "下架 {title}", { title: one.title })}
            onClick={() => onChoose(one, "withdraw")}
          >
            {t("Withdraw", "下架")}
          </button>
        </div>
      ),
    },
  ];
}

const lines = (text: string) =>
  text
    .split("\n")
    .map((one) => one.trim())
    .filter(Boolean);

type Kind = "operator" | "codes" | "webhook";

function Add(props: { onAdded: () => void }) {
  const [title, setTitle] = useState("");
  const [price, setPrice] = useState("");
  const [terms, setTerms] = useState("");
  const [kind, setKind] = useState<Kind>("operator");
  const [stock, setStock] = useState("");
  const [codes, setCodes] = useState("");
  const [webhook, setWebhook] = useState("");
  const [secret, setSecret] = useState("");
  const micro = microPoints(price);
  return (
    <Card title={t("Offer a reward", "新增奖励")}>
      {secret && (
        <Notice tone="good">
          {t(
            "The provider signs with this secret; it is shown only now.",
            "服务商用此密钥签名；仅显示这一次。",
          )}
          <Secret value={secret} />
        </Notice>
      )}
      <Form
        action={t("Offer it", "发布")}
        disabled={micro === undefined}
        onSend={async () => {
          const made = await call<{ webhook_secret?: string }>("POST", "ledger/v1/rewards", {
            body: {
              title: title.trim(),
              micro_points: micro,
              ...(terms.trim() ? { terms: terms.trim() } : {}),
              ...(kind === "codes" ? { codes: lines(codes) } : {}),
              ...(kind === "webhook" ? { webhook: webhook.trim() } : {}),
              ...(kind !== "codes" && stock.trim() ? { stock: Number(stock) } : {}),
            },
          });
          setSecret(made.webhook_secret ?? "");
          for (const clear of [setTitle, setPrice, setTerms, setStock, setCodes, setWebhook]) clear("");
          props.onAdded();
        }}
      >
        <div class="filters">
          <Field label={t("Title", "名称")} value={title} onInput={setTitle} required maxLength={128} />
          <Field
            label={t("Price in points", "所需积分")}
            value={price}
            onInput={setPrice}
            required
            fault={
              price && micro === undefined
                ? t("A number above 0 is wanted.", "请填写大于 0 的数字。")
                : undefined
            }
          />
          <Choice
            label={t("Given by", "发放方式")}
            value={kind}
            onChoose={(wanted) => setKind(wanted as Kind)}
            options={[
              ["operator", t("the operator, by hand", "运营者人工发放")],
              ["codes", t("codes, at once", "兑换码，立即发放")],
              ["webhook", t("a provider, by webhook", "服务商（webhook）")],
            ]}
          />
          {kind !== "codes" && (
            <Field
              label={t("How many there are", "库存数量")}
              hint={t("empty: without limit", "留空表示不限")}
              kind="number"
              min={0}
              value={stock}
              onInput={setStock}
            />
          )}
        </div>
        {kind === "codes" && (
          <Field
            label={t("Codes, one a line", "兑换码，每行一个")}
            value={codes}
            onInput={setCodes}
            long
            required
            maxLength={1_500_000}
          />
        )}
        {kind === "webhook" && (
          <Field
            label={t("Address of the provider", "服务商地址")}
            kind="url"
            value={webhook}
            onInput={setWebhook}
            required
            maxLength={2048}
          />
        )}
        <Field label={t("Terms", "条款")} value={terms} onInput={setTerms} long maxLength={2000} />
      </Form>
    </Card>
  );
}

function Stock(props: { reward: Reward; onDone: () => void }) {
  const [kind, setKind] = useState("more");
  const [more, setMore] = useState("");
  const [codes, setCodes] = useState("");
  return (
    <Form
      action={t("Add", "添加")}
      onSend={async () => {
        const body = kind === "codes" ? { codes: lines(codes) } : { more: Number(more) };
        await call("POST", `ledger/v1/rewards/${encodeURIComponent(props.reward.id)}/stock`, { body });
        props.onDone();
      }}
    >
      <Choice
        label={t("Kind", "种类")}
        value={kind}
        onChoose={setKind}
        options={[
          ["more", t("a number", "数量")],
          ["codes", t("codes", "兑换码")],
        ]}
      />
      {kind === "codes" ? (
        <Field
          label={t("Codes, one a line", "兑换码，每行一个")}
          value={codes}
          onInput={setCodes}
          long
          required
        />
      ) : (
        <Field
          label={t("How many more", "增加数量")}
          kind="number"
          min={1}
          value={more}
          onInput={setMore}
          required
        />
      )}
    </Form>
  );
}

function Redemptions(props: { rewards: Reward[] }) {
  const [state, setState] = useState("reserved");
  const live = useLive<Redemption[]>(`ledger/v1/redemptions?order=newest&limit=50&state=${state}`, 15_000);
  const [decided, setDecided] = useState<{ redemption: Redemption; outcome: "fulfilled" | "voided" }>();
  const titles = new Map(props.rewards.map((one) => [one.id, one.title]));
  const open = state === "reserved" || state === "unknown";
  const name = t("Redemptions", "兑换");
  return (
    <Card title={name}>
      <search class="filters">
        <Choice
          label={t("State", "状态")}
          value={state}
          onChoose={setState}
          options={[
            ["reserved", t("to be given", "待发放")],
            ["unknown", t("unknown", "结果未知")],
            ["fulfilled", t("given", "已发放")],
            ["voided", t("undone", "已撤销")],
          ]}
        />
      </search>
      <Loaded live={live}>
        {(redemptions) => (
          <Table
            name={name}
            columns={[
              { title: t("Reward", "奖励"), cell: (one) => titles.get(one.reward) ?? short(one.reward) },
              { title: t("Owner", "主人"), cell: (one) => <code>{one.owner}</code> },
              { title: t("Points", "积分"), number: true, cell: (one) => points(one.micro_points) },
              { title: t("When", "时间"), cell: (one) => (one.created_at ? time(one.created_at) : "–") },
              { title: t("Reason", "原因"), cell: (one) => one.reason ?? "–" },
              ...(open
                ? [
                    {
                      title: t("Decide", "处理"),
                      cell: (one: Redemption) => (
                        <div class="row">
                          <button
                            type="button"
                            aria-label={t("{id} was given", "{id} 已发放", { id: one.id })}
                            onClick={() => setDecided({ redemption: one, outcome: "fulfilled" })}
                          >
                            {t("Given", "已发放")}
                          </button>
                          <button
                            type="button"
                            class="danger"
                            aria-label={t("Undo {id}", "撤销 {id}", { id: one.id })}
                            onClick={() => setDecided({ redemption: one, outcome: "voided" })}
                          >
                            {t("Undo", "撤销")}
                          </button>
                        </div>
                      ),
                    },
                  ]
                : []),
            ]}
            rows={redemptions}
            keyOf={(one) => one.id}
            empty={t("None.", "无。")}
          />
        )}
      </Loaded>
      <Dialog
        title={
          decided?.outcome === "voided"
            ? t("Undo the redemption?", "撤销此次兑换？")
            : t("Was it given?", "确认已发放？")
        }
        open={decided !== undefined}
        onClose={() => setDecided(undefined)}
      >
        <p>
          {decided?.outcome === "voided"
            ? t("The points go back to the owner.", "积分退还给主人。")
            : t("The points are spent, for good.", "积分即告用完，不可撤回。")}
        </p>
        <Form
          danger={decided?.outcome === "voided"}
          action={decided?.outcome === "voided" ? t("Undo", "撤销") : t("It was given", "已发放")}
          onSend={async () => {
            const id = encodeURIComponent(decided?.redemption.id ?? "");
            await call("POST", `ledger/v1/redemptions/${id}/resolution`, {
              body: { outcome: decided?.outcome },
            });
            setDecided(undefined);
            live.reload();
          }}
        />
      </Dialog>
    </Card>
  );
}
