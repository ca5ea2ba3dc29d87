// An MP4 played while it comes, by Media Source Extensions: mp4box cuts it into fragments.
import { createFile, type ISOFile, type Movie, MP4BoxBuffer } from "mp4box";
import type { FallowObject } from "../../src/fallow";

/** How far ahead of the picture is fetched, and how much behind it is kept. */
const AHEAD_S = 30;
const BEHIND_S = 30;
const SAMPLES_PER_SEGMENT = 25;
/** Asked for beside what is being cut: enough for some homes to send at once. */
const AHEAD_BYTES = 4 * 2 ** 20;

/** The browser cannot play this file in parts. */
export class NotPlayable extends Error {}

type File = ISOFile<SourceBuffer>;

/** Play `object` until `signal` ends it.
 *
 * @throws NotPlayable, or what `object` throws. */
export async function playMp4(
  video: HTMLVideoElement,
  object: FallowObject,
  signal: AbortSignal,
): Promise<never> {
  const player = new Mp4Player(video, object, signal);
  try {
    return await player.run();
  } finally {
    player.stop();
  }
}

class Mp4Player {
  readonly #file = createFile() as File;
  readonly #source = new MediaSource();
  readonly #address = URL.createObjectURL(this.#source);
  readonly #waiting = new Map<SourceBuffer, ArrayBuffer[]>();
  #info: Movie | undefined;
  /** Where to go on in the file, because somebody moved the picture. */
  #seekTo: number | undefined;
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly object: FallowObject,
    private readonly signal: AbortSignal,
  ) {
    this.#file.onReady = (info) => {
      this.#info = info;
    };
    this.#file.onError = (_module, message) => {
      this.#failure = new NotPlayable(message);
    };
    this.#file.onSegment = (id, buffer, data, nextSample) => {
      this.#waiting.get(buffer)?.push(data);
      this.#file.releaseUsedSamples(id, nextSample);
    };
    video.addEventListener("seeking", this.#onSeeking);
    video.addEventListener("timeupdate", this.#onTime);
    signal.addEventListener("abort", this.#onTime);
    video.src = this.#address;
  }

  stop(): void {
    this.video.removeEventListener("seeking", this.#onSeeking);
    this.video.removeEventListener("timeupdate", this.#onTime);
    this.signal.removeEventListener("abort", this.#onTime);
    URL.revokeObjectURL(this.#address);
  }

  async run(): Promise<never> {
    if (this.#source.readyState !== "open") await once(this.#source, "sourceopen", this.signal);
    const at = await this.#readHead();
    this.#begin();
    // What was read to find the head may lie anywhere; what plays begins where the first picture is.
    await this.#pump(this.#info?.isFragmented ? at : this.#file.seek(0, true).offset);
    for (;;) {
      // The viewer may still go back to what was thrown away.
      const to = this.#takeSeek();
      if (to === undefined) await this.#woken();
      else await this.#pump(to);
    }
  }

  /** Read until it is known what is in the file; gives where reading stood. */
  async #readHead(): Promise<number> {
    const { size } = this.object;
    let at = 0;
    let reader = this.#readerAt(at);
    try {
      for (;;) {
        const piece = await reader.read();
        if (piece.done) throw new NotPlayable("the file does not say what is in it");
        const next = this.#file.appendBuffer(bufferOf(piece.value, at));
        at += piece.value.length;
        if (this.#failure !== undefined) throw this.#failure;
        if (this.#info !== undefined) return at;
        // The table of contents may stand at the end: go there.
        if (next > at && next < size) {
          await reader.cancel();
          at = next;
          reader = this.#readerAt(at);
        }
      }
    } finally {
      await reader.cancel();
    }
  }

  #readerAt(first: number): ReadableStreamDefaultReader<Uint8Array> {
    return this.object.stream({ first, last: this.object.size - 1 }, AHEAD_BYTES).getReader();
  }

  #begin(): void {
    const info = this.#info as Movie;
    const tracks = [...info.videoTracks.slice(0, 1), ...info.audioTracks.slice(0, 1)];
    const kinds = tracks.map((track) => ({
      id: track.id,
      mime: `${track === info.videoTracks[0] ? "video" : "audio"}/mp4; codecs="${track.codec}"`,
    }));
    const strange = kinds.find(({ mime }) => !MediaSource.isTypeSupported(mime));
    if (kinds.length === 0 || strange !== undefined)
      throw new NotPlayable(
        strange === undefined ? "nothing in it can be played" : `it holds ${strange.mime}`,
      );
    if (info.duration > 0) this.#source.duration = info.duration / info.timescale;
    for (const { id, mime } of kinds) {
      const buffer = this.#source.addSourceBuffer(mime);
      this.#waiting.set(buffer, []);
      this.#file.setSegmentOptions(id, buffer, { nbSamples: SAMPLES_PER_SEGMENT, rapAlignement: false });
    }
    for (const { user, buffer } of this.#file.initializeSegmentation("per-track"))
      this.#waiting.get(user)?.push(buffer);
    this.#file.start();
  }

  /** Bring the file from `at` on, as fast as the picture needs it. */
  async #pump(at: number): Promise<void> {
    let position = Math.min(at, this.object.size);
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    try {
      for (;;) {
        await this.#flush();
        const to = this.#takeSeek();
        if (to !== undefined || reader === undefined) {
          await reader?.cancel();
          position = Math.min(to ?? position, this.object.size);
          if (position >= this.object.size) break;
          reader = this.#readerAt(position);
        }
        if (this.#aheadS() >= AHEAD_S) {
          await this.#woken();
          continue;
        }
        const piece = await reader.read();
        if (piece.done) break;
        this.#file.appendBuffer(bufferOf(piece.value, position));
        position += piece.value.length;
        if (this.#failure !== undefined) throw this.#failure;
      }
    } finally {
      await reader?.cancel();
    }
    this.#file.flush();
    await this.#flush();
    if (this.#source.readyState === "open") this.#source.endOfStream();
  }

  /** Hand what is cut to the player. */
  async #flush(): Promise<void> {
    for (const [buffer, waiting] of this.#waiting) {
      for (let data = waiting.shift(); data !== undefined; data = waiting.shift()) {
        this.signal.throwIfAborted();
        await this.#settled(buffer);
        await this.#append(buffer, data);
      }
      await this.#settled(buffer);
    }
  }

  async #append(buffer: SourceBuffer, data: ArrayBuffer): Promise<void> {
    try {
      buffer.appendBuffer(data);
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "QuotaExceededError") throw error;
      // The browser holds no more: what was seen goes first.
      const end = this.video.currentTime - 5;
      if (end <= 0) throw error;
      buffer.remove(0, end);
      await this.#settled(buffer);
      buffer.appendBuffer(data);
    }
    await this.#settled(buffer);
    const kept = buffer.buffered.length > 0 ? buffer.buffered.start(0) : Infinity;
    if (kept < this.video.currentTime - 2 * BEHIND_S) {
      buffer.remove(0, this.video.currentTime - BEHIND_S);
      await this.#settled(buffer);
    }
  }

  async #settled(buffer: SourceBuffer): Promise<void> {
    if (buffer.updating) await once(buffer, "updateend", this.signal);
  }

  /** Seconds that are there from the picture on. */
  #aheadS(): number {
    const { buffered, currentTime } = this.video;
    for (let at = 0; at < buffered.length; at++) {
      if (buffered.start(at) <= currentTime + 0.25 && currentTime < buffered.end(at))
        return buffered.end(at) - currentTime;
    }
    return 0;
  }

  #takeSeek(): number | undefined {
    const to = this.#seekTo;
    this.#seekTo = undefined;
    return to;
  }

  readonly #onSeeking = (): void => {
    if (this.#aheadS() === 0) this.#seekTo = this.#file.seek(this.video.currentTime, true).offset;
    this.#wake();
  };

  readonly #onTime = (): void => this.#wake();

  /** Until the picture has moved, or the end. */
  async #woken(): Promise<void> {
    this.signal.throwIfAborted();
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.signal.throwIfAborted();
  }
}

function bufferOf(bytes: Uint8Array, fileStart: number): MP4BoxBuffer {
  // A copy: verified chunks are shared between readers.
  return MP4BoxBuffer.fromArrayBuffer(bytes.slice().buffer, fileStart);
}

function once(target: EventTarget, type: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    target.addEventListener(
      type,
      () => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      },
      { once: true },
    );
  });
}
