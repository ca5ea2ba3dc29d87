// Calls to the server. A session's cookie goes with them by itself; the header shows that a page of the server calls.
import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "./words";

export interface Session {
  account: string;
  role: "operator" | "publisher";
  name: string;
  csrf: string;
  expires_at: number;
}

/** What the server says of a call that failed (RFC 9457); status 0: it was not reached. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly slug: string,
    readonly title: string,
    readonly detail: string,
    readonly remedy: string,
  ) {
    super(title);
  }
}

interface Options {
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

const HEADER = "X-Fallow-Session";
const ANSWER_S = 130;
let csrf = "";
let ended: () => void = () => {};

export function useSession(session: Session | null): void {
  csrf = session?.csrf ?? "";
}

/** Called when the server no longer knows the session. */
export function whenEnded(listener: () => void): void {
  ended = listener;
}

/** Paths of the scheduler begin with `/v1/`, those of its ledger with `ledger/v1/`; others are the console's own. */
export function address(path: string): string {
  return path.startsWith("/") ? `..${path}` : path;
}

export function headersOf(more: Record<string, string> = {}): Record<string, string> {
  return csrf ? { [HEADER]: csrf, ...more } : more;
}

export async function send(method: string, path: string, options: Options = {}): Promise<Response> {
  const headers = headersOf(options.headers);
  const init: RequestInit = { method, headers, cache: "no-store", redirect: "error" };
  if (options.body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(options.body);
  }
  const timeout = AbortSignal.timeout(ANSWER_S * 1000);
  init.signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  let response: Response;
  try {
    response = await fetch(address(path), init);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw unreachable();
  }
  if (response.ok || response.status === 304) return response;
  const problem = problemOf(response.status, await response.text());
  if (problem.status === 401 && csrf) ended();
  throw problem;
}

export async function call<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const response = await send(method, path, options);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export function unreachable(): Problem {
  return new Problem(
    0,
    "unreachable",
    t("The server is not reached", "无法连接服务器"),
    "",
    t("Check the connection; this page tries again by itself.", "请检查网络连接；本页会自动重试。"),
  );
}

export function problemOf(status: number, body: string): Problem {
  let told: Record<string, unknown> = {};
  try {
    told = JSON.parse(body) as Record<string, unknown>;
  } catch {
    // A proxy in between says it in its own words.
  }
  const text = (name: string) => (typeof told[name] === "string" ? (told[name] as string) : "");
  return new Problem(status, text("type"), text("title") || `HTTP ${status}`, text("detail"), text("remedy"));
}

export interface Live<T> {
  value: T | undefined;
  problem: Problem | undefined;
  reload: () => void;
}

const RETRY_MS_MAX = 60_000;

/** What `path` answers, asked for again and again while the page is looked at; unchanged answers are not sent again. */
export function useLive<T>(path: string | null, everyMs = 5000): Live<T> {
  const [state, setState] = useState<{ path: string | null; value?: T; problem?: Problem }>({ path });
  const wake = useRef<() => void>(() => {});
  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    let timer: number | undefined;
    let tag: string | null = null;
    let failures = 0;
    let asking = false;
    const ask = async () => {
      if (stop.signal.aborted || asking) return;
      window.clearTimeout(timer);
      asking = true;
      try {
        const headers: Record<string, string> = tag ? { "If-None-Match": tag } : {};
        const response = await send("GET", path, { signal: stop.signal, headers });
        if (response.status !== 304) {
          tag = response.headers.get("ETag");
          const value = (await response.json()) as T;
          if (!stop.signal.aborted) setState({ path, value });
        } else if (failures > 0) {
          setState((before) => (before.value === undefined ? before : { path, value: before.value }));
        }
        failures = 0;
      } catch (error) {
        if (stop.signal.aborted) return;
        failures += 1;
        const problem = error instanceof Problem ? error : unreachable();
        // What was shown stays, as it was then.
        setState((before) => ({ ...(before.path === path ? before : {}), path, problem }));
      } finally {
        asking = false;
      }
      const waitMs = Math.min(RETRY_MS_MAX, everyMs * 2 ** Math.min(failures, 4));
      if (!document.hidden) timer = window.setTimeout(ask, waitMs);
    };
    const shown = () => {
      if (!document.hidden) void ask();
    };
    wake.current = () => {
      tag = null;
      void ask();
    };
    document.addEventListener("visibilitychange", shown);
    void ask();
    return () => {
      stop.abort();
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [path, everyMs]);
  const current = state.path === path;
  return {
    value: current ? state.value : undefined,
    problem: current ? state.problem : undefined,
    reload: () => wake.current(),
  };
}

/** Unique for one wish, however often it is sent. */
export function onceKey(): string {
  return crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");
}

const hex = (value: number) => value.toString(16).padStart(2, "0");
