// Which chunk is asked of which source: a pure machine, events in and commands out. Times are milliseconds of one
// monotonic clock. The rules are those of the Python client (fallow_client/fetch_plan.py), for readers who want some
// chunks now and others later:
//
// 1. A ticket never has more bytes asked for and not confirmed than the device would send, nor more than it allows.
// 2. Devices come first; the origin serves when no device can. Else it helps with a small share of the chunks, where
//    a device gives no sign of life for max(2 round trips, 300 ms).
// 3. When nothing is left to ask for, a slow chunk is asked of a second source, the origin last; the first good answer
//    counts, and only that one is confirmed.
// 4. A device that sent a wrong chunk is never asked again.
// 5. A failed chunk goes back to the front. A source that fails repeatedly is closed; when too few are left, a new
//    plan is wanted, each barren one later than the last.
import { unacknowledgedBytesMax } from "./tickets";

export const ORIGIN = "origin";

/** Why a request brought nothing: refused for now; this ticket or device serves no more; no answer, or it broke off;
 * the bytes are not the chunk. */
export type Failure = "busy" | "gone" | "broken" | "wrong";

/** A device as a plan offers it. `key` is the ticket's id. */
export interface TicketSource {
  key: string;
  deviceId: string;
  maxBytes: number;
  untilMs: number;
  firstChunk: number;
  rttMs?: number | undefined;
}

export type Command =
  | { do: "fetch"; request: number; source: string; chunk: number }
  | { do: "abort"; request: number }
  | { do: "replan" }
  | { do: "give-up" };

export const LIMITS = {
  /** Each request holds one chunk in memory. */
  requestsMax: 16,
  /** Enough to fill a long path; browsers open six connections to one host, and receipts need one. */
  requestsPerSourceMax: 4,
  /** At all devices together, before any has shown what it can. */
  firstRequestsMax: 12,
  originRequestsMax: 2,
  /** Of more sources than this, consumers begin at different chunks of each. */
  wholeSourcesMax: 4,
  silentMsMin: 300,
  silentRttFactor: 2,
  helpPermille: 80,
  helpChunksMin: 1,
  hedgeAfterMsMin: 1000,
  hedgeOriginAfterMsMin: 4000,
  hedgeFactor: 2,
  slowChunkMs: 4000,
  fastChunkMs: 1000,
  failuresMax: 3,
  originFailuresMax: 6,
  originWrongMax: 3,
  restMsMin: 500,
  restMsMax: 60_000,
  replanMsMin: 2000,
  replanMsMax: 300_000,
};

class Source {
  requested = 0;
  confirmed = 0;
  inFlight = 0;
  failures = 0;
  restUntilMs = 0;
  lastMs: number | undefined;
  closed = false;

  constructor(
    readonly key: string,
    readonly deviceId: string,
    readonly maxBytes: number,
    readonly untilMs: number,
    readonly firstChunk: number,
    public rttMs: number | undefined,
  ) {}
}

interface Request {
  number: number;
  source: Source;
  chunk: number;
  sinceMs: number;
  answered: boolean;
  helping: boolean;
}

export class Schedule {
  /** Wanted and asked of nobody, the most urgent first. */
  #pending: number[] = [];
  readonly #active = new Map<number, Request[]>();
  readonly #requests = new Map<number, Request>();
  #devices = new Map<string, Source>();
  readonly #origin = new Source(ORIGIN, "", Infinity, Infinity, 0, undefined);
  readonly #originWrong = new Map<number, number>();
  readonly #banned = new Set<string>();
  readonly #chunkCount: number;
  #helpChunks: number;
  #nextNumber = 1;
  #offered = 0;
  #replanning = false;
  #replanAtMs = 0;
  #barren = 0;

  constructor(
    private readonly size: number,
    private readonly chunkSize: number,
    private readonly limits = LIMITS,
  ) {
    this.#chunkCount = Math.ceil(size / chunkSize);
    const share = Math.floor((this.#chunkCount * limits.helpPermille) / 1000);
    this.#helpChunks = Math.max(limits.helpChunksMin, share);
  }

  chunkLength(chunk: number): number {
    return Math.min(this.chunkSize, this.size - chunk * this.chunkSize);
  }

  /** Whether anything is asked for or waits for that. */
  get isBusy(): boolean {
    return this.#pending.length > 0 || this.#requests.size > 0;
  }

  isWanted(chunk: number): boolean {
    return this.#active.has(chunk) || this.#pending.includes(chunk);
  }

  // ---------------------------------------------------------------- events

  /** A reader wants this chunk, after those that it wanted before. */
  want(chunk: number): void {
    if (!this.isWanted(chunk)) this.#pending.push(chunk);
  }

  /** No reader wants it any longer. What was asked for is still taken and confirmed: the device has sent it. */
  forget(chunk: number): void {
    this.#pending = this.#pending.filter((one) => one !== chunk);
  }

  /** A plan arrived. Older tickets are asked no more; what they still bring counts. */
  planned(sources: readonly TicketSource[], nowMs: number): void {
    for (const old of this.#devices.values()) old.closed = true;
    this.#devices = new Map([...this.#devices].filter(([, old]) => old.inFlight > 0));
    const offered = sources.filter((one) => !this.#banned.has(one.deviceId));
    for (const one of offered) {
      if (this.#devices.has(one.key)) continue;
      const made = new Source(one.key, one.deviceId, one.maxBytes, one.untilMs, one.firstChunk, one.rttMs);
      this.#devices.set(one.key, made);
    }
    this.#offered = offered.length;
    this.#replanDone(nowMs);
  }

  replanFailed(nowMs: number): void {
    this.#replanDone(nowMs);
  }

  /** The first sign of an answer: the source is at it. */
  answered(number: number, nowMs: number): void {
    const request = this.#requests.get(number);
    if (request === undefined || request.answered) return;
    request.answered = true;
    const waitedMs = nowMs - request.sinceMs;
    request.source.rttMs = Math.min(request.source.rttMs ?? waitedMs, waitedMs);
  }

  /** The chunk of this request is verified. Gives the requests that are not needed any more; undefined when it was
   * itself one of these. */
  verified(number: number, nowMs: number): Command[] | undefined {
    const request = this.#take(number);
    if (request === undefined) return undefined;
    const { source, chunk } = request;
    source.confirmed += this.chunkLength(chunk);
    source.failures = 0;
    source.lastMs = nowMs - request.sinceMs;
    if (source !== this.#origin) this.#barren = 0;
    // What the others were sent meanwhile is never confirmed: it stays in their windows.
    const others = this.#active.get(chunk) ?? [];
    this.#active.delete(chunk);
    return others.map((other) => {
      this.#take(other.number);
      return { do: "abort", request: other.number };
    });
  }

  /** @param retryAfterMs what a busy source asked for. */
  failed(number: number, failure: Failure, nowMs: number, retryAfterMs = 0): void {
    const request = this.#take(number);
    if (request === undefined) return;
    const { source, chunk } = request;
    const limits = this.limits;
    if (failure === "busy" || failure === "gone") source.requested -= this.chunkLength(chunk);
    if (this.#active.get(chunk)?.length === 0) {
      this.#active.delete(chunk);
      this.#pending.unshift(chunk);
    }
    if (request.helping && source === this.#origin && failure === "busy") {
      // It protects itself from a crowd; that is no fault, and the devices have the chunk too.
      source.restUntilMs = nowMs + Math.min(Math.max(retryAfterMs, limits.restMsMin), limits.restMsMax);
      this.#helpChunks += 1;
      return;
    }
    source.failures += 1;
    const restMs = Math.max(retryAfterMs, limits.restMsMin * 2 ** Math.min(source.failures - 1, 10));
    source.restUntilMs = nowMs + Math.min(restMs, limits.restMsMax);
    if (source === this.#origin) {
      const wrong = (this.#originWrong.get(chunk) ?? 0) + (failure === "wrong" ? 1 : 0);
      this.#originWrong.set(chunk, wrong);
      source.closed = wrong >= limits.originWrongMax || source.failures >= limits.originFailuresMax;
      return;
    }
    if (failure === "wrong") this.#banned.add(source.deviceId);
    if (failure === "wrong" || failure === "gone" || source.failures >= limits.failuresMax)
      source.closed = true;
  }

  // ---------------------------------------------------------------- commands

  /** What to do now. Call it after every event, and a few times a second, for rests and hedges end by time. */
  poll(nowMs: number): Command[] {
    if (!this.isBusy) return [];
    const commands: Command[] = [];
    this.#closeExhausted(nowMs);
    if (this.#wantsReplan(nowMs)) {
      this.#replanning = true;
      commands.push({ do: "replan" });
    }
    while (this.#requests.size < this.limits.requestsMax) {
      const command = this.#helpSilent(nowMs) ?? this.#assign(nowMs) ?? this.#hedge(nowMs);
      if (command === undefined) break;
      commands.push(command);
    }
    if (commands.length === 0 && this.#requests.size === 0 && this.#isHopeless()) {
      this.#pending = [];
      return [{ do: "give-up" }];
    }
    return commands;
  }

  #assign(nowMs: number): Command | undefined {
    let chunk = this.#pending[0];
    if (chunk === undefined) return undefined;
    let source = this.#ranked(chunk, nowMs)[0];
    let helping = false;
    if (source !== undefined) {
      if (this.#offered > this.limits.wholeSourcesMax) chunk = this.#chunkFor(source);
    } else {
      source = this.#freeOrigin(nowMs);
      if (source === undefined && this.#mayHelp(nowMs)) {
        source = this.#origin;
        helping = true;
      }
    }
    if (source === undefined) return undefined;
    this.#pending = this.#pending.filter((one) => one !== chunk);
    this.#active.set(chunk, []);
    return this.#ask(source, chunk, nowMs, helping);
  }

  /** The first pending chunk at or behind the one where consumers of a crowd begin with this source. */
  #chunkFor(source: Source): number {
    const distance = (chunk: number) => (chunk - source.firstChunk + this.#chunkCount) % this.#chunkCount;
    return this.#pending.reduce((best, chunk) => (distance(chunk) < distance(best) ? chunk : best));
  }

  /** Whether every device is slow: then many are asking, and the origin has a line too. One chunk at a time. */
  #mayHelp(nowMs: number): boolean {
    if (this.#helpChunks <= 0 || this.#origin.inFlight > 0 || !this.#isFree(this.#origin, 0, nowMs))
      return false;
    const known = this.#knownMs();
    return known.length > 0 && Math.min(...known) >= this.limits.slowChunkMs;
  }

  /** Another source for a chunk whose device does not answer at all. */
  #helpSilent(nowMs: number): Command | undefined {
    if (this.#helpChunks <= 0) return undefined;
    for (const [request, second] of this.#active.values()) {
      if (request === undefined || second !== undefined) continue;
      if (request.answered || request.source === this.#origin) continue;
      const silentMs = this.limits.silentRttFactor * (request.source.rttMs ?? 0);
      if (nowMs - request.sinceMs < Math.max(this.limits.silentMsMin, silentMs)) continue;
      const helper = this.#ranked(request.chunk, nowMs).find(
        (one) => one.deviceId !== request.source.deviceId,
      );
      if (helper !== undefined && helper.inFlight === 0) return this.#ask(helper, request.chunk, nowMs, true);
      if (this.#isFree(this.#origin, 0, nowMs)) return this.#ask(this.#origin, request.chunk, nowMs, true);
    }
    return undefined;
  }

  /** A second source for the chunk that is asked for longest, when there is no other work for it. */
  #hedge(nowMs: number): Command | undefined {
    if (this.#pending.length > 0) return undefined;
    const single = [...this.#active.values()].flatMap((all) => (all.length === 1 ? all : []));
    single.sort((one, other) => one.sinceMs - other.sinceMs || one.chunk - other.chunk);
    for (const slow of single) {
      const ageMs = nowMs - slow.sinceMs;
      if (ageMs < this.limits.hedgeAfterMsMin) break;
      for (const helper of [...this.#ranked(slow.chunk, nowMs), this.#origin]) {
        if (helper.deviceId === slow.source.deviceId || !this.#isFree(helper, slow.chunk, nowMs)) continue;
        if (helper === this.#origin && this.#helpChunks <= 0) continue;
        if (ageMs >= this.#hedgeAgeMs(slow.source, helper))
          return this.#ask(helper, slow.chunk, nowMs, helper === this.#origin);
      }
    }
    return undefined;
  }

  /** A device helps when it would have been done twice over; the origin, when the slow one is slow for itself. */
  #hedgeAgeMs(slow: Source, helper: Source): number {
    const { hedgeFactor, hedgeAfterMsMin, hedgeOriginAfterMsMin, slowChunkMs } = this.limits;
    if (helper === this.#origin) return Math.max(hedgeOriginAfterMsMin, hedgeFactor * (slow.lastMs ?? 0));
    const known = this.#knownMs();
    // A device that has shown nothing yet is taken to be no faster than the others: in a crowd all are slow.
    const expectedMs = helper.lastMs ?? (known.length > 0 ? Math.max(...known) : slowChunkMs);
    return Math.max(hedgeAfterMsMin, hedgeFactor * expectedMs);
  }

  #ask(source: Source, chunk: number, sinceMs: number, helping: boolean): Command {
    const request = { number: this.#nextNumber++, source, chunk, sinceMs, answered: false, helping };
    if (helping) this.#helpChunks -= 1;
    this.#requests.set(request.number, request);
    this.#active.get(chunk)?.push(request);
    source.inFlight += 1;
    source.requested += this.chunkLength(chunk);
    return { do: "fetch", request: request.number, source: source.key, chunk };
  }

  // ---------------------------------------------------------------- choosing

  #knownMs(): number[] {
    return [...this.#devices.values()].flatMap((one) => (one.lastMs === undefined ? [] : [one.lastMs]));
  }

  /** Free devices, the least busy first, then the fastest; of several that are fast enough, the one that was asked for
   * least: a viewer needs little, and tickets that idle are closed. */
  #ranked(chunk: number, nowMs: number): Source[] {
    const slownessOf = ({ lastMs }: Source) =>
      lastMs === undefined || lastMs <= this.limits.fastChunkMs ? 0 : lastMs;
    const free = [...this.#devices.values()].filter((one) => this.#isFree(one, chunk, nowMs));
    return free.sort(
      (one, other) =>
        one.inFlight - other.inFlight ||
        slownessOf(one) - slownessOf(other) ||
        one.requested - other.requested,
    );
  }

  /** The origin, when no device serves and no plan is under way. */
  #freeOrigin(nowMs: number): Source | undefined {
    if (this.#replanning || !this.#isFree(this.#origin, 0, nowMs)) return undefined;
    const serving = [...this.#devices.values()].some(
      (one) => one.inFlight > 0 || !(one.closed || one.restUntilMs > nowMs),
    );
    return serving ? undefined : this.#origin;
  }

  #isFree(source: Source, chunk: number, nowMs: number): boolean {
    if (source.closed || source.restUntilMs > nowMs || source.inFlight >= this.#depth(source)) return false;
    return source === this.#origin || this.#fits(source, this.chunkLength(chunk));
  }

  #fits(source: Source, length: number): boolean {
    if (source.requested + length > source.maxBytes) return false;
    return source.requested + length - source.confirmed <= unacknowledgedBytesMax(source.confirmed);
  }

  /** Requests at once: few at a slow source, so that little waits behind it. */
  #depth(source: Source): number {
    const { requestsPerSourceMax, firstRequestsMax, originRequestsMax, fastChunkMs, slowChunkMs } =
      this.limits;
    if (source.failures > 0) return 1;
    if (source === this.#origin) return originRequestsMax;
    if (source.lastMs === undefined)
      return Math.max(
        1,
        Math.min(requestsPerSourceMax, Math.floor(firstRequestsMax / Math.max(1, this.#offered))),
      );
    if (source.lastMs <= fastChunkMs) return requestsPerSourceMax;
    return source.lastMs >= slowChunkMs ? 1 : Math.min(2, requestsPerSourceMax);
  }

  // ---------------------------------------------------------------- closing, planning anew

  /** Close tickets that expire, or that idle and would not be served one chunk more. */
  #closeExhausted(nowMs: number): void {
    const wanted = [...this.#pending.slice(0, 1), ...this.#active.keys()];
    const smallest = wanted.length > 0 ? Math.min(...wanted.map((chunk) => this.chunkLength(chunk))) : 0;
    for (const source of this.#devices.values()) {
      if (nowMs >= source.untilMs) source.closed = true;
      if (source.inFlight === 0 && !this.#fits(source, smallest)) source.closed = true;
    }
  }

  #wantsReplan(nowMs: number): boolean {
    if (this.#replanning || nowMs < this.#replanAtMs || this.#pending.length === 0) return false;
    const usable = [...this.#devices.values()].filter((one) => !one.closed).length;
    return usable === 0 || 2 * usable < this.#offered;
  }

  #replanDone(nowMs: number): void {
    this.#replanning = false;
    const { replanMsMin, replanMsMax } = this.limits;
    this.#replanAtMs = nowMs + Math.min(replanMsMin * 4 ** Math.min(this.#barren, 8), replanMsMax);
    this.#barren += 1;
  }

  #isHopeless(): boolean {
    const usable = [...this.#devices.values()].some((one) => !one.closed);
    return this.#origin.closed && !usable && !this.#replanning;
  }

  /** Forget a request; undefined when it was aborted before. */
  #take(number: number): Request | undefined {
    const request = this.#requests.get(number);
    if (request === undefined) return undefined;
    this.#requests.delete(number);
    request.source.inFlight -= 1;
    const active = this.#active.get(request.chunk);
    active?.splice(active.indexOf(request), 1);
    return request;
  }
}
