// Port M of the device that this page came from: its calls, their shapes, and the token of this phone.
import type { Text } from "../../shared/language";
import { explain } from "./problems";

export type State = "dormant" | "activating" | "active" | "paused" | "leaving";

export interface Device {
  device_id: string;
  name: string;
  model: string;
  version: string;
  state: State;
  terms_version: string;
  scheduler?: string;
}

export interface Problem {
  type: string;
  title?: string;
  detail?: string;
  remedy?: string;
  status?: number;
  reason?: string;
  attempts_left?: number;
}

export interface Line {
  up_capacity_bps: number;
  household_up_bps: number;
  own_up_bps: number;
  idle_up_bps: number;
  capacity_source: string;
}

export interface Transfer {
  object: string;
  service: string;
  bytes_sent: number;
  started_at: number;
}

export interface Status {
  state: State;
  paused_until?: number;
  refusal?: Problem | null;
  line?: Line;
  budget_up_bps?: number;
  household_seen_by?: "counters" | "router" | "queue";
  forecast_idle_up_bps?: number[];
  do_no_harm?: string;
  disk?: { quota_bytes: number; used_bytes: number; free_bytes: number };
  sessions: Transfer[];
  tasks: { id: string; status: string; bytes_done: number; reason?: string }[];
  content: { objects: number; bytes: number };
  today: { bytes_up: number; yields: number };
  month: { bytes: number };
  uplink: { connected: boolean; since?: number; error?: Problem };
  ports?: { seen?: unknown; advice?: Problem | null };
  proofs?: { waiting: number; oldest_s: number };
}

export interface Hours {
  days: number[];
  start_min: number;
  end_min: number;
}

export interface Limits {
  upload_bps_max?: number | null;
  upload_percent_max: number;
  monthly_bytes_max?: number | null;
  content_bytes_max?: number | null;
  hours: Hours[];
  services: Record<string, boolean>;
  connections_max: number;
}

/** What is not answered: the device or the network is away. */
export const AWAY: Problem = { type: "device-away" };

export class Refused extends Error {
  constructor(
    readonly problem: Problem,
    readonly status = 0,
  ) {
    super(problem.title ?? problem.type);
  }

  get text(): Text {
    return explain(this.problem);
  }
}

const TOKEN = "fallow.token";
const ANSWER_MS_MAX = 20_000;

export function phoneToken(): string | null {
  return localStorage.getItem(TOKEN);
}

export function keepToken(token: string): void {
  localStorage.setItem(TOKEN, token);
}

export function forgetToken(): void {
  localStorage.removeItem(TOKEN);
}

/** The secret of the QR code: taken from the address and removed from it, so that it stays in no history. */
export function codeFromAddress(): string | null {
  const found = /^#code=([0-9A-Za-z-]{4,32})$/.exec(location.hash);
  if (found) history.replaceState(null, "", location.pathname);
  return found?.[1] ?? null;
}

export async function answerOf<T>(url: string, options: RequestInit): Promise<T> {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), ANSWER_MS_MAX);
  try {
    const response = await fetch(url, {
      ...options,
      signal: patience.signal,
      cache: "no-store",
      credentials: "omit",
    });
    const text = await response.text();
    let value: unknown = null;
    try {
      value = text ? JSON.parse(text) : null;
    } catch {
      throw new Refused({ type: "bad-answer" }, response.status);
    }
    if (!response.ok) throw new Refused((value as Problem | null) ?? { type: "bad-answer" }, response.status);
    return value as T;
  } catch (error) {
    throw error instanceof Refused ? error : new Refused(AWAY);
  } finally {
    clearTimeout(timer);
  }
}

export function call<T>(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<T> {
  const token = phoneToken();
  return answerOf<T>(path, {
    method,
    headers: {
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

export const describe = () => call<Device>("GET", "v1/device");
export const activation = () => call<{ state: State; error?: Problem }>("GET", "v1/activation");

export async function pair(code: string): Promise<void> {
  keepToken((await call<{ lan_token: string }>("POST", "v1/lan-tokens", { setup_code: code })).lan_token);
}

export async function activate(body: {
  scheduler: string;
  claim_token: string;
  setup_code: string;
  consent: { terms_version: string; accepted: boolean };
  limits: Partial<Limits>;
}): Promise<void> {
  keepToken((await call<{ lan_token: string }>("POST", "v1/activation", body)).lan_token);
}
