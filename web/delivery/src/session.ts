// One object, fetched from several devices at once: requests, verification, receipts. The decisions are `schedule`'s.
import { type ObjectAddress, withoutHelp } from "./addresses";
import type { ByteRange, FallowEvent, ObjectOptions, SourceInfo } from "./api";
import type { Bytes } from "./encoding";
import { jwkOf } from "./jws";
import { chunkSpan, isChunk, type Manifest, verifiedManifest } from "./manifest";
import { type Command, type Failure, ORIGIN, Schedule, type TicketSource } from "./schedule";
import { type Plan, type PlanSource, Scheduler } from "./scheduler";
import { firstChunk, newPlanKey, type PlanKey, TicketReceipts, verifiedTicket } from "./tickets";

const TICK_MS = 250;
/** A transfer without a byte for so long has failed: somebody is watching. */
const STALL_MS = 8_000;
/** A device that has answered sends to a few at a time: the others wait for their turn, 30 s at most. */
const TURN_MS = 32_000;
/** A receipt that no request has carried by then is posted. */
const RECEIPT_AFTER_MS = 1_000;
const RECEIPT_POST_MS = 3_000;
const EXPIRY_MARGIN_MS = 15_000;
const RETRY_AFTER_S_MAX = 60;
/** How far beyond a reader's place chunks are asked for, where it does not say. */
const AHEAD_BYTES = 12 * 2 ** 20;
/** Verified chunks that readers have not taken yet, or took last. */
const KEPT_CHUNKS_MAX = 24;

const ORIGIN_INFO: SourceInfo = { id: ORIGIN, kind: "origin" };

class Refused extends Error {
  constructor(
    readonly failure: Failure,
    message: string,
    readonly retryAfterMs = 0,
    /** Nobody is to blame: a ticket is over, or the origin has others to help. */
    readonly isEveryday = false,
  ) {
    super(message);
  }
}

interface Device {
  info: SourceInfo;
  url: string;
  ticket: string;
  receipts: TicketReceipts;
  confirmedAt: number;
  posting: boolean;
}

interface Waiter {
  resolve: (bytes: Bytes) => void;
  reject: (error: unknown) => void;
}

export class ObjectSession {
  readonly #devices = new Map<string, Device>();
  readonly #aborts = new Map<number, AbortController>();
  readonly #kept = new Map<number, Bytes>();
  readonly #waiters = new Map<number, Set<Waiter>>();
  readonly #tally = new Map<string, number>();
  readonly #ending = new AbortController();
  readonly #schedule: Schedule;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #origin = "";

  private constructor(
    private readonly address: ObjectAddress,
    private readonly scheduler: Scheduler,
    private readonly manifest: Manifest,
    readonly name: string,
    private readonly options: ObjectOptions,
  ) {
    this.#schedule = new Schedule(manifest.size, manifest.chunkSize);
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    globalThis.addEventListener?.("pagehide", this.#onHide);
  }

  /** @throws Error where the scheduler refuses, or what it says does not verify. */
  static async open(address: ObjectAddress, options: ObjectOptions): Promise<ObjectSession> {
    const scheduler = Scheduler.at(address.scheduler);
    const signal = options.signal ?? new AbortController().signal;
    const [keys, key] = await Promise.all([scheduler.keys(), newPlanKey()]);
    const plan = await scheduler.plan(address, jwkOf(key.key.publicKey), options.range, signal);
    const manifest = await verifiedManifest(plan.manifest, keys, address.id);
    signal.throwIfAborted();
    const session = new ObjectSession(address, scheduler, manifest, plan.name, options);
    const { size, type } = manifest;
    session.#tell({ type: "opened", object: address.id, name: plan.name, size, mediaType: type });
    await session.#use(plan, key);
    return session;
  }

  get id(): string {
    return this.address.id;
  }

  get size(): number {
    return this.manifest.size;
  }

  get type(): string {
    return this.manifest.type;
  }

  /** Verified bytes by source: device ids, and `origin`. */
  get bytesBySource(): ReadonlyMap<string, number> {
    return this.#tally;
  }

  /** The bytes of `range` (all when left out) in order, each verified before it is handed on.
   *
   * @param ahead bytes that are asked for before they are read, one chunk at least: the more, the more homes send at
   * once; the fewer, the less is for nothing when the reader stops. */
  stream(range?: ByteRange, ahead = AHEAD_BYTES): ReadableStream<Uint8Array> {
    const { first, last } = this.#checked(range);
    const { chunkSize } = this.manifest;
    const aheadChunks = Math.min(KEPT_CHUNKS_MAX / 2, Math.max(1, Math.ceil(ahead / chunkSize)));
    let at = first;
    const end = last + 1;
    let wanted = Math.floor(at / chunkSize);
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          if (at < end) {
            const chunk = Math.floor(at / chunkSize);
            const limit = Math.min(chunk + aheadChunks, Math.ceil(end / chunkSize));
            for (wanted = Math.max(wanted, chunk); wanted < limit; wanted++) this.#want(wanted);
            const bytes = await this.#chunk(chunk);
            const start = chunk * chunkSize;
            const piece = bytes.subarray(at - start, Math.min(end - start, bytes.length));
            at += piece.length;
            controller.enqueue(piece);
          }
          if (at >= end) controller.close();
        },
        cancel: () => {
          for (let chunk = Math.floor(at / chunkSize); chunk < wanted; chunk++) {
            if (!this.#waiters.has(chunk)) this.#schedule.forget(chunk);
          }
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** The bytes of `range` in one piece. */
  async read(range?: ByteRange): Promise<Bytes> {
    const { first, last } = this.#checked(range);
    const whole = new Uint8Array(last - first + 1);
    let filled = 0;
    const reader = this.stream({ first, last }).getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      whole.set(piece.value, filled);
      filled += piece.value.length;
    }
    return whole;
  }

  /** End all transfers and hand over the last receipts, without which the homes are not paid. */
  close(reason: unknown = new DOMException("the object is closed", "AbortError")): Promise<void> {
    return this.#end(reason, false);
  }

  async #end(reason: unknown, leaving: boolean): Promise<void> {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort(reason);
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("pagehide", this.#onHide);
    this.options.signal?.removeEventListener("abort", this.#onAbort);
    for (const abort of this.#aborts.values()) abort.abort(reason);
    this.#fail(reason);
    this.#kept.clear();
    const due = [...this.#devices.values()].filter((device) => device.receipts.isDue);
    await Promise.all(due.map((device) => this.#postReceipt(device, leaving)));
  }

  readonly #onAbort = (): void => {
    void this.close(this.options.signal?.reason);
  };

  /** A page that is kept for going back opens the object again. */
  readonly #onHide = (): void => {
    void this.#end(new DOMException("the page was left", "AbortError"), true);
  };

  // ---------------------------------------------------------------- readers

  #checked(range: ByteRange | undefined): ByteRange {
    const { first, last } = range ?? { first: 0, last: this.size - 1 };
    const whole = range === undefined && this.size === 0;
    if (!whole && !(Number.isSafeInteger(first) && 0 <= first && first <= last && last < this.size))
      throw new RangeError(`first <= last < ${this.size} is wanted`);
    return { first, last };
  }

  #want(chunk: number): void {
    if (!this.#kept.has(chunk)) this.#schedule.want(chunk);
  }

  #chunk(chunk: number): Promise<Bytes> {
    if (this.#ending.signal.aborted) return Promise.reject(this.#ending.signal.reason);
    const kept = this.#kept.get(chunk);
    if (kept !== undefined) return Promise.resolve(kept);
    this.#schedule.want(chunk);
    return new Promise((resolve, reject) => {
      const all = this.#waiters.get(chunk) ?? new Set();
      this.#waiters.set(chunk, all.add({ resolve, reject }));
      this.#pump();
    });
  }

  #keep(chunk: number, bytes: Bytes): void {
    this.#kept.set(chunk, bytes);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= KEPT_CHUNKS_MAX) break;
      this.#kept.delete(oldest);
    }
    for (const waiter of this.#waiters.get(chunk) ?? []) waiter.resolve(bytes);
    this.#waiters.delete(chunk);
  }

  #fail(error: unknown): void {
    const all = [...this.#waiters.values()];
    this.#waiters.clear();
    for (const waiters of all) for (const waiter of waiters) waiter.reject(error);
  }

  // ---------------------------------------------------------------- the loop

  #pump(): void {
    if (this.#ending.signal.aborted) return;
    for (const command of this.#schedule.poll(performance.now())) this.#perform(command);
    this.#postOverdue();
    const due = [...this.#devices.values()].some((device) => device.receipts.isDue);
    if ((this.#schedule.isBusy || due) && this.#timer === undefined) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#pump();
      }, TICK_MS);
    }
  }

  #perform(command: Command): void {
    switch (command.do) {
      case "fetch":
        void this.#fetchChunk(command.request, command.source, command.chunk);
        break;
      case "abort":
        this.#aborts.get(command.request)?.abort();
        this.#aborts.delete(command.request);
        break;
      case "replan":
        void this.#replan();
        break;
      case "give-up":
        this.#fail(new Error("neither the devices nor the origin could bring the rest of the object"));
    }
  }

  async #replan(): Promise<void> {
    try {
      const key = await newPlanKey();
      const jwk = jwkOf(key.key.publicKey);
      const { range } = this.options;
      await this.#use(await this.scheduler.plan(this.address, jwk, range, this.#ending.signal), key);
    } catch {
      this.#schedule.replanFailed(performance.now()); // the machine asks again, later each time
    }
    this.#pump();
  }

  async #use(plan: Plan, key: PlanKey): Promise<void> {
    const keys = await this.scheduler.keys();
    const sources: TicketSource[] = [];
    const infos: SourceInfo[] = [];
    for (const offered of plan.sources) {
      const info = infoOf(offered);
      try {
        sources.push(await this.#accept(offered, info, key, keys));
        infos.push(info);
      } catch (error) {
        this.#tell({ type: "lost", source: info, reason: `its ticket is refused: ${messageOf(error)}` });
      }
    }
    this.#origin = sources.length > 0 ? plan.origin : withoutHelp(plan.origin);
    this.#schedule.planned(sources, performance.now());
    if (plan.barred > 0) this.#tell({ type: "barred", devices: plan.barred, reason: "mixed-content" });
    this.#tell({ type: "planned", sources: infos });
  }

  async #accept(
    offered: PlanSource,
    info: SourceInfo,
    key: PlanKey,
    keys: Awaited<ReturnType<Scheduler["keys"]>>,
  ): Promise<TicketSource> {
    const { deviceId, url, rttMs } = offered;
    const ticket = await verifiedTicket(offered.ticket, keys, { deviceId, objectId: this.id, key });
    const receipts = new TicketReceipts(ticket.jti, key);
    const device = { info, url, ticket: offered.ticket, receipts, confirmedAt: 0, posting: false };
    this.#devices.set(ticket.jti, device);
    // By its lifetime, not by its times: this computer's clock may be wrong. The margin is for a last chunk.
    const usableMs = ticket.lifetimeMs - Math.min(EXPIRY_MARGIN_MS, ticket.lifetimeMs / 4);
    const first = offered.first ?? (await firstChunk(this.id, deviceId, this.manifest.chunks.length));
    const untilMs = performance.now() + usableMs;
    return { key: ticket.jti, deviceId, maxBytes: ticket.maxBytes, untilMs, firstChunk: first, rttMs };
  }

  // ---------------------------------------------------------------- chunks

  async #fetchChunk(request: number, source: string, chunk: number): Promise<void> {
    const abort = new AbortController();
    this.#aborts.set(request, abort);
    const device = this.#devices.get(source);
    const started = performance.now();
    try {
      const bytes = await this.#download(request, device, chunk, abort);
      if (!(await isChunk(this.manifest, chunk, bytes)))
        throw new Refused("wrong", "its bytes are not the object's");
      this.#verified(request, device, chunk, bytes, performance.now() - started);
    } catch (error) {
      this.#lost(request, device, error);
    } finally {
      this.#aborts.delete(request);
      this.#pump();
    }
  }

  #verified(request: number, device: Device | undefined, chunk: number, bytes: Bytes, ms: number): void {
    const now = performance.now();
    const aborted = this.#schedule.verified(request, now);
    if (aborted === undefined || this.#ending.signal.aborted) return; // another source's answer counted
    for (const command of aborted) this.#perform(command);
    if (device !== undefined) {
      device.receipts.confirm(bytes.length, ms, this.manifest.chunks[chunk] ?? "");
      device.confirmedAt = now;
      void device.receipts.latest(); // signed now, for the page may be left at any moment
    }
    const source = device?.info ?? ORIGIN_INFO;
    this.#tally.set(source.id, (this.#tally.get(source.id) ?? 0) + bytes.length);
    this.#keep(chunk, bytes);
    this.#tell({ type: "bytes", source, bytes: bytes.length, chunk });
  }

  #lost(request: number, device: Device | undefined, error: unknown): void {
    if (!this.#aborts.has(request) || this.#ending.signal.aborted) return; // it was not needed any more
    const refused = error instanceof Refused ? error : new Refused("broken", messageOf(error));
    this.#schedule.failed(request, refused.failure, performance.now(), refused.retryAfterMs);
    if (refused.isEveryday) return;
    const source = device?.info ?? ORIGIN_INFO;
    const type = refused.failure === "wrong" ? "refused" : "lost";
    this.#tell({ type, source, reason: refused.message });
  }

  /** The bytes that a source gives for a chunk; not verified yet. */
  async #download(
    request: number,
    device: Device | undefined,
    chunk: number,
    abort: AbortController,
  ): Promise<Bytes> {
    const { start, length } = chunkSpan(this.manifest, chunk);
    const last = start + length - 1;
    const headers: Record<string, string> = { Range: `bytes=${start}-${last}` };
    const receipt = device?.receipts.isDue ? await device.receipts.latest() : undefined;
    if (receipt !== undefined) headers["Fallow-Receipt"] = receipt.token;
    const stall = () => abort.abort(new Refused("broken", "it fell silent"));
    let timer = setTimeout(stall, STALL_MS);
    const started = performance.now();
    try {
      const response = await fetch(
        device === undefined ? this.#origin : `${device.url}?ticket=${device.ticket}`,
        {
          headers,
          signal: abort.signal,
          // Chunks are kept here, and the browser's cache lets only one request of an address through at a time.
          cache: "no-store",
          credentials: "omit",
          referrerPolicy: "no-referrer",
          // A device must not send us elsewhere; the origin may, for what arrives is verified.
          redirect: device === undefined ? "follow" : "error",
        },
      );
      this.#check(response, `bytes ${start}-${last}/${this.size}`, length, device === undefined);
      this.#schedule.answered(request, performance.now());
      if (device !== undefined) this.scheduler.noteWaited(device.info.id, performance.now() - started);
      if (receipt !== undefined) device?.receipts.delivered(receipt.n);
      clearTimeout(timer);
      timer = setTimeout(stall, TURN_MS);
      const bytes = new Uint8Array(length);
      let filled = 0;
      const reader = response.body?.getReader();
      for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read()) {
        clearTimeout(timer);
        timer = setTimeout(stall, STALL_MS);
        if (filled + piece.value.length > length) throw new Refused("wrong", "more bytes than asked for");
        bytes.set(piece.value, filled);
        filled += piece.value.length;
      }
      if (filled < length) throw new Refused("broken", `broke off after ${filled} bytes`);
      return bytes;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @throws Refused unless the body will be exactly the range. */
  #check(response: Response, range: string, length: number, isOrigin: boolean): void {
    const { status, headers } = response;
    if (status === 206 && headers.get("Content-Range") === range) return;
    if (status === 200 && length === this.size) return;
    void response.body?.cancel();
    if (status === 429 || status >= 500) {
      const after = Number(headers.get("Retry-After") ?? 0);
      const seconds = Number.isFinite(after) ? Math.min(Math.max(after, 0), RETRY_AFTER_S_MAX) : 0;
      throw new Refused("busy", `status ${status}`, seconds * 1000, status === 503 && isOrigin);
    }
    throw new Refused("gone", `status ${status}`, 0, status === 403);
  }

  // ---------------------------------------------------------------- receipts

  /** Receipts that no request carried: of devices that rest, were closed, or have no more to do. */
  #postOverdue(): void {
    const before = performance.now() - RECEIPT_AFTER_MS;
    for (const device of this.#devices.values()) {
      if (!device.receipts.isDue || device.posting || device.confirmedAt > before) continue;
      device.confirmedAt = performance.now();
      void this.#postReceipt(device);
    }
  }

  async #postReceipt(device: Device, leaving = false): Promise<void> {
    device.posting = true;
    try {
      const receipt = leaving ? device.receipts.signed : await device.receipts.latest();
      if (receipt === undefined) return;
      // As plain text it needs no preflight; and it outlives the page.
      const response = await fetch(new URL("/v1/receipts", device.url), {
        method: "POST",
        body: receipt.token,
        keepalive: true,
        credentials: "omit",
        referrerPolicy: "no-referrer",
        redirect: "error",
        signal: AbortSignal.timeout(RECEIPT_POST_MS),
      });
      if (response.ok) device.receipts.delivered(receipt.n);
    } catch {
      // The device is away: the next try is a second later, or there is none.
    } finally {
      device.posting = false;
    }
  }

  #tell(event: FallowEvent): void {
    this.options.onEvent?.(event);
  }
}

function infoOf(offered: PlanSource): SourceInfo {
  const { deviceId: id, country } = offered;
  return country === undefined ? { id, kind: "device" } : { id, kind: "device", country };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
