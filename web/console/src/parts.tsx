// What pages are made of.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { type Live, Problem, unreachable } from "./api";
import { count } from "./format";
import { troubleOf } from "./troubles";
import { t } from "./words";

export function Card(props: { title?: string; aside?: ComponentChildren; children: ComponentChildren }) {
  return (
    <div class="card">
      {props.title && (
        <header>
          <h2>{props.title}</h2>
          {props.aside}
        </header>
      )}
      {props.children}
    </div>
  );
}

export function Figures(props: { of: readonly (readonly [label: string, value: string, note?: string])[] }) {
  return (
    <dl class="figures">
      {props.of.map(([label, value, note]) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd>
            {value}
            {note && <small>{note}</small>}
          </dd>
        </div>
      ))}
    </dl>
  );
}

/** Names and values below each other. */
export function Facts(props: { of: readonly (readonly [label: string, value: ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {props.of.map(([label, value]) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export type Tone = "good" | "warn" | "bad" | "plain";

export function Badge(props: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${props.tone}`}>{props.children}</span>;
}

export function Notice(props: { tone: Tone; children: ComponentChildren }) {
  return (
    <div class={`notice ${props.tone}`} role={props.tone === "bad" ? "alert" : "status"}>
      {props.children}
    </div>
  );
}

export function Trouble(props: { of: unknown }) {
  if (props.of === undefined || props.of === null) return null;
  const problem = props.of instanceof Problem ? props.of : unreachable();
  const { title, remedy } = troubleOf(problem);
  return (
    <Notice tone="bad">
      <strong>{title}</strong>
      {problem.detail && <span> {problem.detail}</span>}
      {remedy && <span> {remedy}</span>}
    </Notice>
  );
}

/** What is there of `live`; where a later call failed, what was there before, with the reason above. */
export function Loaded<T>(props: { live: Live<T>; children: (value: T) => ComponentChildren }) {
  const { value, problem } = props.live;
  return (
    <>
      <Trouble of={problem} />
      {value !== undefined ? props.children(value) : !problem && <Loading />}
    </>
  );
}

export function Loading() {
  return (
    <p class="loading" role="status">
      {t("Loading…", "载入中…")}
    </p>
  );
}

export function Empty(props: { children: ComponentChildren }) {
  return <p class="empty">{props.children}</p>;
}

export interface Column<Row> {
  /** Sorted by this at the server, where it is given. */
  sort?: string;
  title: string;
  number?: boolean;
  /** Of sentences, which are broken into lines. */
  wide?: boolean;
  cell: (row: Row) => ComponentChildren;
}

interface TableProps<Row> {
  name: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string;
  /** As the address has it: `-` before a column that is sorted downwards. */
  sort?: string;
  onSort?: (sort: string) => void;
  empty?: ComponentChildren;
}

export function Table<Row>(props: TableProps<Row>) {
  if (props.rows.length === 0 && props.empty) return <Empty>{props.empty}</Empty>;
  const sorted = props.sort?.replace(/^-/, "");
  const down = props.sort?.startsWith("-") ?? false;
  return (
    // A table that is wider than a phone is moved sideways, by keys too.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reached by keys
    <section class="scroll" aria-label={props.name} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {props.columns.map((column) => {
              const mine = column.sort !== undefined && column.sort === sorted;
              return (
                <th
                  key={column.title}
                  scope="col"
                  class={column.number ? "number" : undefined}
                  {...(mine ? { "aria-sort": down ? "descending" : "ascending" } : {})}
                >
                  {column.sort && props.onSort ? (
                    <button
                      type="button"
                      class="sort"
                      onClick={() => props.onSort?.(mine && !down ? `-${column.sort}` : (column.sort ?? ""))}
                    >
                      {column.title}
                      <span aria-hidden="true">{mine ? (down ? " ↓" : " ↑") : ""}</span>
                    </button>
                  ) : (
                    column.title
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr key={props.keyOf(row)}>
              {props.columns.map((column) => (
                <td key={column.title} class={column.number ? "number" : column.wide ? "wide" : undefined}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

export function Pager(props: { page: number; size: number; total: number; onPage: (page: number) => void }) {
  const { page, size, total } = props;
  const last = Math.max(0, Math.ceil(total / size) - 1);
  const from = total === 0 ? 0 : page * size + 1;
  const to = Math.min(total, (page + 1) * size);
  return (
    <nav class="pager" aria-label={t("Pages", "分页")}>
      <button type="button" disabled={page <= 0} onClick={() => props.onPage(page - 1)}>
        {t("Previous", "上一页")}
      </button>
      <span aria-live="polite">
        {t("{from} to {to} of {total}", "第 {from}–{to} 条，共 {total} 条", {
          from: count(from),
          to: count(to),
          total: count(total),
        })}
      </span>
      <button type="button" disabled={page >= last} onClick={() => props.onPage(page + 1)}>
        {t("Next", "下一页")}
      </button>
    </nav>
  );
}

interface FieldProps {
  label: string;
  value: string;
  onInput: (text: string) => void;
  kind?: "text" | "password" | "search" | "number" | "url" | "datetime-local";
  hint?: string | undefined;
  fault?: string | undefined;
  required?: boolean;
  maxLength?: number;
  min?: number;
  max?: number;
  autocomplete?: "current-password" | "off";
  /** Several lines. */
  long?: boolean;
}

export function Field(props: FieldProps) {
  const id = useId();
  const more = props.fault || props.hint;
  const shared = {
    id,
    value: props.value,
    required: props.required ?? false,
    maxLength: props.maxLength ?? 4096,
    "aria-invalid": Boolean(props.fault),
    ...(more ? { "aria-describedby": `${id}-more` } : {}),
  };
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.long ? (
        <textarea {...shared} onInput={(event) => props.onInput(event.currentTarget.value)} />
      ) : (
        <input
          {...shared}
          type={(props.kind ?? "text") as "text"}
          autocomplete={props.autocomplete ?? "off"}
          {...(props.min === undefined ? {} : { min: props.min })}
          {...(props.max === undefined ? {} : { max: props.max })}
          onInput={(event) => props.onInput(event.currentTarget.value)}
        />
      )}
      {more && (
        <small id={`${id}-more`} class={props.fault ? "fault" : undefined}>
          {more}
        </small>
      )}
    </div>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  onChoose: (value: string) => void;
  options: readonly (readonly [value: string, label: string])[];
}

export function Choice(props: ChoiceProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <select id={id} value={props.value} onChange={(event) => props.onChoose(event.currentTarget.value)}>
        {props.options.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
    </div>
  );
}

const SEARCH_WAIT_MS = 250;

/** Tells of its text when the reader pauses. */
export function Search(props: { label: string; value: string; onSearch: (text: string) => void }) {
  const [text, setText] = useState(props.value);
  const timer = useRef<number | undefined>(undefined);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  return (
    <Field
      label={props.label}
      kind="search"
      value={text}
      maxLength={128}
      onInput={(next) => {
        setText(next);
        window.clearTimeout(timer.current);
        timer.current = window.setTimeout(() => props.onSearch(next), SEARCH_WAIT_MS);
      }}
    />
  );
}

interface DialogProps {
  title: string;
  open: boolean;
  onClose: () => void;
  children: ComponentChildren;
}

export function Dialog(props: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const shown = ref.current;
    if (props.open && shown && !shown.open) shown.showModal();
    if (!props.open) shown?.close();
  }, [props.open]);
  return (
    <dialog ref={ref} aria-labelledby={id} onClose={props.onClose}>
      {props.open && (
        <>
          <header>
            <h2 id={id}>{props.title}</h2>
            <button type="button" class="plain" onClick={props.onClose}>
              {t("Close", "关闭")}
            </button>
          </header>
          {props.children}
        </>
      )}
    </dialog>
  );
}

/** A form whose wish is under way once at a time; what went wrong is said in it. */
export function Form(props: {
  action: string;
  onSend: () => Promise<void>;
  danger?: boolean;
  disabled?: boolean;
  children?: ComponentChildren;
}) {
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState<unknown>();
  const send = async (event: Event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setTrouble(undefined);
    try {
      await props.onSend();
    } catch (error) {
      setTrouble(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form onSubmit={send}>
      {props.children}
      <Trouble of={trouble} />
      <button type="submit" class={props.danger ? "danger" : "main"} disabled={busy || props.disabled}>
        {busy ? t("One moment…", "请稍候…") : props.action}
      </button>
    </form>
  );
}

/** A secret that is shown once. */
export function Secret(props: { value: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <p class="secret">
      <code>{props.value}</code>
      <button
        type="button"
        onClick={async () => {
          await navigator.clipboard.writeText(props.value);
          setCopied(true);
        }}
      >
        {copied ? t("Copied", "已复制") : t("Copy", "复制")}
      </button>
    </p>
  );
}
