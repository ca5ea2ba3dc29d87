// What is asked of a scheduler: its keys, plans, and which object a mirrored file is.
import { isMirrored, mayAsk, type ObjectAddress, objectAt } from "./addresses";
import { type Jwk, type Keys, keysOf } from "./jws";

const KEYS_FRESH_MS = 300_000;
const WAITED_MAX = 16;
/** After a page was found to be barred from devices, how long no tickets are asked for: each locks escrow. */
const BARRED_MS = 600_000;
const ANSWER_MS_MAX = 15_000;
/** Whose keys a page remembers; it has one. */
const SCHEDULERS_MAX = 16;

export interface PlanSource {
  deviceId: string;
  url: string;
  ticket: string;
  country?: string | undefined;
  rttMs?: number | undefined;
  /** Where its stripe begins, where it holds the object in part. */
  first?: number | undefined;
}

/** `barred`: devices that were offered and that the browser does not let this page ask. */
export interface Plan {
  name: string;
  manifest: string;
  sources: PlanSource[];
  origin: string;
  barred: number;
}

/** The scheduler refused, or did not answer. `status` 0: no answer. */
export class SchedulerError extends Error {
  constructor(
    readonly status: number,
    readonly slug: string,
    message: string,
  ) {
    super(message);
    this.name = "SchedulerError";
  }
}

export class Scheduler {
  static readonly #known = new Map<string, Scheduler>();

  #keys: { at: number; keys: Promise<Keys> } | undefined;
  readonly #waited = new Map<string, number>();
  #barredUntil = 0;
  #barred = 0;

  private constructor(readonly url: string) {}

  /** One for each address, so that keys are fetched once. */
  static at(url: string): Scheduler {
    const found = Scheduler.#known.get(url) ?? new Scheduler(url);
    if (Scheduler.#known.size >= SCHEDULERS_MAX) Scheduler.#known.clear();
    Scheduler.#known.set(url, found);
    return found;
  }

  /** Its keys, for verification. */
  keys(): Promise<Keys> {
    if (this.#keys === undefined || performance.now() - this.#keys.at > KEYS_FRESH_MS) {
      const keys = this.#json("/.well-known/jwks.json", {}).then(keysOf);
      this.#keys = { at: performance.now(), keys };
      keys.catch(() => {
        this.#keys = undefined;
      });
    }
    return this.#keys.keys;
  }

  /** What was waited for a device's first byte: the scheduler learns from it who is near whom. */
  noteWaited(deviceId: string, ms: number): void {
    this.#waited.set(deviceId, Math.max(1, Math.min(Math.round(ms), this.#waited.get(deviceId) ?? Infinity)));
    const oldest = this.#waited.keys().next();
    if (this.#waited.size > WAITED_MAX && !oldest.done) this.#waited.delete(oldest.value);
  }

  /** @throws SchedulerError */
  async plan(
    address: ObjectAddress,
    jwk: Jwk,
    range: { first: number; last: number } | undefined,
    signal: AbortSignal,
  ): Promise<Plan> {
    const protocol = globalThis.location?.protocol ?? "";
    if (performance.now() < this.#barredUntil) return this.#planWithoutDevices(address, signal);
    const waited = [...this.#waited].map(([device_id, ms]) => ({ device_id, ms }));
    const asked = { object: address.id, jwk, ranges: range === undefined ? undefined : [range], waited };
    const body = JSON.stringify(asked);
    const headers = { "Content-Type": "application/json" };
    const found = await this.#json("/v1/plans", { method: "POST", body, headers, signal });
    const offered = (found.sources as Record<string, unknown>[]).map((one) => ({
      deviceId: String(one.device_id),
      url: String(one.url),
      ticket: String(one.ticket),
      country: one.country as string | undefined,
      rttMs: one.rtt_ms as number | undefined,
      first: (one.stripe as { first: number } | undefined)?.first,
    }));
    const sources = offered.filter((one) => mayAsk(protocol, one.url));
    const barred = offered.length - sources.length;
    if (barred > 0 && sources.length === 0) {
      this.#barredUntil = performance.now() + BARRED_MS;
      this.#barred = barred;
    }
    return {
      name: String(found.name),
      manifest: String(found.manifest),
      sources,
      origin: String(found.origin),
      barred,
    };
  }

  async #planWithoutDevices(address: ObjectAddress, signal: AbortSignal): Promise<Plan> {
    const response = await this.#ask(`/v1/manifests/${address.id}`, { signal });
    const origin = `${this.url}/o/${address.id}/${address.name}?source=origin`;
    const name = decodeURIComponent(address.name);
    return { name, manifest: await response.text(), sources: [], origin, barred: this.#barred };
  }

  async #json(path: string, init: RequestInit): Promise<Record<string, unknown>> {
    const response = await this.#ask(path, init);
    return (await response.json()) as Record<string, unknown>;
  }

  async #ask(path: string, init: RequestInit): Promise<Response> {
    const ending = new AbortController();
    const abort = () => ending.abort(init.signal?.reason);
    init.signal?.addEventListener("abort", abort);
    const timer = setTimeout(abort, ANSWER_MS_MAX);
    let response: Response;
    try {
      init.signal?.throwIfAborted();
      response = await fetch(this.url + path, { ...init, signal: ending.signal, credentials: "omit" });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new SchedulerError(0, "no-answer", `${this.url} does not answer`);
    } finally {
      clearTimeout(timer);
      init.signal?.removeEventListener("abort", abort);
    }
    if (response.ok) return response;
    const problem = (await response.json().catch(() => ({}))) as { type?: string; title?: string };
    const title = problem.title ?? `status ${response.status}`;
    throw new SchedulerError(response.status, problem.type ?? "refused", `${this.url}: ${title}`);
  }
}

/** The object at an address: of `…/o/…` it is named there, of `…/s/…` the scheduler tells. undefined when none is held:
 * the file then comes from its origin. */
export async function findObject(address: string, signal: AbortSignal): Promise<ObjectAddress | undefined> {
  const named = objectAt(address);
  if (named !== undefined || !isMirrored(address)) return named;
  try {
    const response = await fetch(address, { method: "HEAD", credentials: "omit", signal });
    return response.ok ? objectAt(response.url) : undefined;
  } catch (error) {
    if (signal.aborted) throw error;
    return undefined; // the origin, to which it leads, does not let pages of others ask
  }
}
