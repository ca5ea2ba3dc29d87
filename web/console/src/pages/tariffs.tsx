// The tariff: the one in force, and making the next one, with what it would have paid last week.
import { useState } from "preact/hooks";
import { call, send, useLive } from "../api";
import { points, share, time } from "../format";
import { Badge, Card, type Column, Empty, Field, Form, Loaded, Notice, Table } from "../parts";
import { changesOf, type Draft, draftOf, payloadOf, type TariffTerms, termsOf } from "../tariff";
import { t } from "../words";
import { Changes, Compared, type Diff } from "./tariff_diff";

interface Signed {
  id: string;
  version: number;
  valid_from: number;
  tariff: string;
}

const OWNERS_SHOWN = 50;
const ASK_AGAIN_MS = 1000;
const ASKED_MAX = 600;
const DAY_S = 86_400;

export function Tariffs() {
  const live = useLive<Signed[]>("ledger/v1/tariffs?limit=20", 30_000);
  return (
    <>
      <h1>{t("Tariff", "资费")}</h1>
      <Loaded live={live}>
        {(tariffs) => {
          const now = Date.now() / 1000;
          const current = tariffs.find((one) => one.valid_from <= now) ?? tariffs[tariffs.length - 1];
          const newest = tariffs[0];
          if (!current || !newest) return <Empty>{t("There is no tariff.", "还没有资费。")}</Empty>;
          return (
            <>
              <List tariffs={tariffs} current={current} />
              <Editor
                key={newest.id}
                newest={payloadOf<TariffTerms>(newest.tariff)}
                onPublished={live.reload}
              />
            </>
          );
        }}
      </Loaded>
    </>
  );
}

function List(props: { tariffs: Signed[]; current: Signed }) {
  const columns: Column<Signed>[] = [
    { title: t("Version", "版本"), number: true, cell: (one) => one.version },
    { title: t("Valid from", "生效时间"), cell: (one) => time(one.valid_from) },
    {
      title: t("State", "状态"),
      cell: (one) =>
        one.id === props.current.id ? (
          <Badge tone="good">{t("in force", "生效中")}</Badge>
        ) : one.valid_from > props.current.valid_from ? (
          <Badge tone="warn">{t("announced", "已公布")}</Badge>
        ) : (
          <Badge tone="plain">{t("over", "已结束")}</Badge>
        ),
    },
    {
      title: t("Points per GiB of a file", "每 GiB 文件积分"),
      number: true,
      cell: (one) => points(payloadOf<TariffTerms>(one.tariff).rates.object ?? 0),
    },
    { title: t("Id", "编号"), cell: (one) => <code title={one.id}>{one.id.slice(0, 12)}</code> },
  ];
  return (
    <Card title={t("Tariffs, newest first", "资费列表（最新在前）")}>
      <Table
        name={t("Tariffs, newest first", "资费列表（最新在前）")}
        columns={columns}
        rows={props.tariffs}
        keyOf={(one) => one.id}
      />
    </Card>
  );
}

function serviceOf(name: string): string {
  switch (name) {
    case "object":
      return t("files", "文件");
    case "fill":
      return t("copies between devices", "设备间复制");
    case "live":
      return t("live streams", "直播");
    case "probe":
      return t("measurements", "测量");
    case "countersigned":
      return t("confirmed by the consumer", "用户确认的服务");
    case "legacy":
      return t("not confirmed", "未确认的服务");
    default:
      return name;
  }
}

/** As a field of a browser for local time takes it. */
function localTime(at: number): string {
  const date = new Date((at - new Date(at * 1000).getTimezoneOffset() * 60) * 1000);
  return date.toISOString().slice(0, 16);
}

function Editor(props: { newest: TariffTerms; onPublished: () => void }) {
  const { newest } = props;
  const [draft, setDraft] = useState<Draft>(() => draftOf(newest));
  const [from, setFrom] = useState(() => localTime(Math.max(Date.now() / 1000, newest.valid_from) + DAY_S));
  const [diff, setDiff] = useState<{ of: string; told: Diff }>();
  const [permille, setPermille] = useState<number>();
  const [said, setSaid] = useState("");
  const at = Math.floor(new Date(from).getTime() / 1000);
  const { terms, faults } = termsOf(draft, at);
  if (!Number.isFinite(at)) faults.push("valid_from");
  const bad = (name: string) =>
    faults.includes(name) ? t("A number from 0 is wanted.", "请填写不小于 0 的数字。") : undefined;
  const change = (changes: Partial<Draft>) => setDraft({ ...draft, ...changes });
  const changes = terms ? changesOf(newest, terms) : [];
  const body = JSON.stringify({ ...terms, valid_from: 0 });
  const compared = diff?.of === body ? diff.told : undefined;

  const compare = async () => {
    if (!terms) return;
    setDiff(undefined);
    for (let asked = 0; asked < ASKED_MAX; asked += 1) {
      const path = `ledger/v1/tariffs/diff?limit=${OWNERS_SHOWN}`;
      const response = await send("POST", path, { body: terms });
      if (response.status === 200) {
        setPermille(undefined);
        setDiff({ of: body, told: (await response.json()) as Diff });
        return;
      }
      setPermille(((await response.json()) as { done_permille: number }).done_permille);
      await new Promise((resume) => setTimeout(resume, ASK_AGAIN_MS));
    }
  };
  return (
    <Card title={t("The next tariff", "新资费")}>
      {said && <Notice tone="good">{said}</Notice>}
      <p class="soft">
        {t(
          "Published tariffs never change and hold for tickets issued while they are valid; nobody's earned points change.",
          "资费公布后不可更改，仅适用于其有效期内签发的票据；已赚取的积分不受影响。",
        )}
      </p>
      <Form
        action={t("Compare with last week", "与上周对比")}
        disabled={!terms || faults.length > 0}
        onSend={compare}
      >
        <fieldset>
          <legend>{t("Points per GiB", "每 GiB 积分")}</legend>
          <div class="filters">
            {Object.entries(draft.rates).map(([name, value]) => (
              <Field
                key={name}
                label={serviceOf(name)}
                value={value}
                fault={bad(`rates.${name}`)}
                onInput={(text) => change({ rates: { ...draft.rates, [name]: text } })}
              />
            ))}
          </div>
        </fieldset>
        <fieldset>
          <legend>{t("Weight, in %", "权重（%）")}</legend>
          <div class="filters">
            {Object.entries(draft.weights).map(([name, value]) => (
              <Field
                key={name}
                label={serviceOf(name)}
                value={value}
                fault={bad(`weights.${name}`)}
                onInput={(text) => change({ weights: { ...draft.weights, [name]: text } })}
              />
            ))}
          </div>
        </fieldset>
        <fieldset>
          <legend>
            {t("Unconfirmed service, paid at most a day, in GiB", "未确认服务每日付费上限（GiB）")}
          </legend>
          <div class="filters">
            <Field
              label={t("of a device", "每台设备")}
              value={draft.device_day_gib}
              fault={bad("device_day_gib")}
              onInput={(device_day_gib) => change({ device_day_gib })}
            />
            <Field
              label={t("for a publisher", "每个发布者")}
              value={draft.publisher_day_gib}
              fault={bad("publisher_day_gib")}
              onInput={(publisher_day_gib) => change({ publisher_day_gib })}
            />
          </div>
        </fieldset>
        <Steps
          legend={t("Trust: weight of unconfirmed service", "信任：未确认服务的权重")}
          from={t("from so many good audits", "连续通过抽查次数")}
          to={t("counts %", "计入 %")}
          steps={draft.trust}
          fault={(row, part) => bad(`trust.${row}.${part}`)}
          onChange={(trust) => change({ trust })}
        />
        <Steps
          legend={t("Quality: by what consumers measured", "质量：按用户实测")}
          from={t("from % of the promised rate", "达到承诺速率的 %")}
          to={t("counts %", "计入 %")}
          steps={draft.quality}
          fault={(row, part) => bad(`quality.${row}.${part}`)}
          onChange={(quality) => change({ quality })}
        />
        <fieldset>
          <legend>{t("Scarcity: % for each hour of the day (UTC)", "稀缺度：一天各小时（UTC）的 %")}</legend>
          {draft.scarcity.map((one, row) => {
            const set = (changed: Partial<typeof one>) =>
              change({
                scarcity: draft.scarcity.map((other, index) =>
                  index === row ? { ...other, ...changed } : other,
                ),
              });
            return (
              <div class="filters" key={row}>
                <Field
                  label={t("Country, or * for the others", "国家代码，* 表示其余")}
                  value={one.region}
                  maxLength={2}
                  fault={
                    faults.includes(`scarcity.${row}.region`)
                      ? t("Two capital letters, or *.", "两个大写字母，或 *。")
                      : undefined
                  }
                  onInput={(region) => set({ region: region.toUpperCase() })}
                />
                <Field
                  label={t("24 numbers", "24 个数字")}
                  value={one.percents}
                  fault={
                    faults.includes(`scarcity.${row}.percents`)
                      ? t("24 numbers with commas are wanted.", "请填写 24 个以逗号分隔的数字。")
                      : undefined
                  }
                  onInput={(percents) => set({ percents })}
                />
                <button
                  type="button"
                  onClick={() => change({ scarcity: draft.scarcity.filter((_, index) => index !== row) })}
                >
                  {t("Remove", "移除")}
                </button>
              </div>
            );
          })}
          <p>
            <button
              type="button"
              onClick={() =>
                change({
                  scarcity: [
                    ...draft.scarcity,
                    {
                      region: draft.scarcity.length === 0 ? "*" : "",
                      percents: new Array(24).fill("100").join(", "),
                    },
                  ],
                })
              }
            >
              {t("Add a country", "添加地区")}
            </button>
          </p>
        </fieldset>
        {permille !== undefined && (
          <Notice tone="plain">
            {t("Last week is gone through: {done}", "正在核算上周：{done}", { done: share(permille / 1000) })}
          </Notice>
        )}
      </Form>
      <Changes of={changes} />
      {compared && (
        <>
          <Compared told={compared} />
          <Form
            action={t("Publish this tariff", "公布此资费")}
            disabled={!terms || changes.length === 0}
            onSend={async () => {
              await call("POST", "ledger/v1/tariffs", { body: terms });
              setSaid(t("Published. It holds from {at}.", "已公布，自 {at} 起生效。", { at: time(at) }));
              setDiff(undefined);
              props.onPublished();
            }}
          >
            <Field
              label={t("Valid from (your time)", "生效时间（本地时间）")}
              kind="datetime-local"
              value={from}
              required
              hint={t(
                "In the future; other scarcity than before at least a week ahead, so that owners see it coming.",
                "须为将来时间；更改稀缺度须至少提前一周，以便主人知晓。",
              )}
              onInput={setFrom}
            />
          </Form>
        </>
      )}
      {!compared && changes.length > 0 && (
        <p class="soft">
          {t("Compare it with last week; then it can be published.", "先与上周对比，然后即可公布。")}
        </p>
      )}
    </Card>
  );
}

interface StepsProps {
  legend: string;
  from: string;
  to: string;
  steps: Draft["trust"];
  fault: (row: number, part: "from" | "percent") => string | undefined;
  onChange: (steps: Draft["trust"]) => void;
}

function Steps(props: StepsProps) {
  const { steps, onChange } = props;
  return (
    <fieldset>
      <legend>{props.legend}</legend>
      {steps.map((step, row) => {
        const set = (changes: Partial<typeof step>) =>
          onChange(steps.map((other, index) => (index === row ? { ...other, ...changes } : other)));
        return (
          <div class="filters" key={row}>
            <Field
              label={props.from}
              value={step.from}
              fault={props.fault(row, "from")}
              onInput={(from) => set({ from })}
            />
            <Field
              label={props.to}
              value={step.percent}
              fault={props.fault(row, "percent")}
              onInput={(percent) => set({ percent })}
            />
            <button type="button" onClick={() => onChange(steps.filter((_, index) => index !== row))}>
              {t("Remove", "移除")}
            </button>
          </div>
        );
      })}
      <p>
        <button type="button" onClick={() => onChange([...steps, { from: "", percent: "100" }])}>
          {t("Add a step", "添加一档")}
        </button>
      </p>
    </fieldset>
  );
}
