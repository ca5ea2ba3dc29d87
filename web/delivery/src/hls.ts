// Segments and playlists for hls.js: `new Hls({ loader: hlsLoader() })`.
import type {
  HlsConfig,
  Loader,
  LoaderCallbacks,
  LoaderConfiguration,
  LoaderContext,
  LoaderStats,
} from "hls.js";
import type { FallowEvent } from "./api";
import { findObject } from "./scheduler";
import { ObjectSession } from "./session";

/**
 * A loader for hls.js: what devices hold comes from them, verified; all else from its address.
 *
 * @param onEvent is told where bytes came from.
 */
export function hlsLoader(
  onEvent?: (event: FallowEvent) => void,
): new (
  config: HlsConfig,
) => Loader<LoaderContext> {
  return class FallowLoader implements Loader<LoaderContext> {
    context: LoaderContext | null = null;
    stats: LoaderStats = newStats();
    readonly #abort = new AbortController();
    #callbacks: LoaderCallbacks<LoaderContext> | undefined;
    #timer: ReturnType<typeof setTimeout> | undefined;

    load(
      context: LoaderContext,
      config: LoaderConfiguration,
      callbacks: LoaderCallbacks<LoaderContext>,
    ): void {
      this.context = context;
      this.#callbacks = callbacks;
      this.stats.loading.start = performance.now();
      this.#timer = setTimeout(() => {
        this.#end();
        callbacks.onTimeout(this.stats, context, null);
      }, config.loadPolicy.maxLoadTimeMs);
      this.#load(context).then(
        ({ url, data }) => {
          if (this.#callbacks === undefined) return;
          this.#callbacks = undefined;
          clearTimeout(this.#timer);
          const size = typeof data === "string" ? data.length : data.byteLength;
          this.stats.loaded = this.stats.total = size;
          this.stats.loading.end = Math.max(this.stats.loading.first, performance.now());
          callbacks.onSuccess({ url, data, code: 200 }, this.stats, context, null);
        },
        (error: unknown) => {
          if (this.#callbacks === undefined) return;
          this.#end();
          const text = error instanceof Error ? error.message : String(error);
          callbacks.onError({ code: statusOf(error), text }, context, null, this.stats);
        },
      );
    }

    abort(): void {
      const callbacks = this.#callbacks;
      this.#end();
      this.stats.aborted = true;
      if (this.context !== null) callbacks?.onAbort?.(this.stats, this.context, null);
    }

    destroy(): void {
      this.#end();
      this.context = null;
    }

    #end(): void {
      this.#callbacks = undefined;
      clearTimeout(this.#timer);
      this.#abort.abort();
    }

    async #load(context: LoaderContext): Promise<{ url: string; data: string | ArrayBuffer }> {
      const signal = this.#abort.signal;
      const object =
        context.responseType === "arraybuffer" ? await findObject(context.url, signal) : undefined;
      if (object === undefined) return this.#plain(context, signal);
      const { rangeStart, rangeEnd } = context;
      const range = rangeEnd ? { first: rangeStart ?? 0, last: rangeEnd - 1 } : undefined;
      const session = await ObjectSession.open(object, { signal, range, onEvent: this.#told });
      try {
        return { url: context.url, data: (await session.read(range)).buffer };
      } finally {
        void session.close(); // the last receipts go out beside the next segment
      }
    }

    readonly #told = (event: FallowEvent): void => {
      if (event.type === "bytes" && this.stats.loading.first === 0)
        this.stats.loading.first = performance.now();
      onEvent?.(event);
    };

    async #plain(
      context: LoaderContext,
      signal: AbortSignal,
    ): Promise<{ url: string; data: string | ArrayBuffer }> {
      const { rangeStart, rangeEnd } = context;
      const headers: HeadersInit = rangeEnd ? { Range: `bytes=${rangeStart ?? 0}-${rangeEnd - 1}` } : {};
      const response = await fetch(context.url, { headers, signal, credentials: "omit" });
      if (!response.ok) throw new PlainError(response.status);
      this.stats.loading.first = performance.now();
      if (context.responseType !== "arraybuffer") return { url: response.url, data: await response.text() };
      const data = await response.arrayBuffer();
      onEvent?.({ type: "plain", url: context.url, bytes: data.byteLength });
      return { url: response.url, data };
    }
  };
}

class PlainError extends Error {
  constructor(readonly status: number) {
    super(`status ${status}`);
  }
}

function statusOf(error: unknown): number {
  const { status } = error as { status?: unknown };
  return typeof status === "number" ? status : 0;
}

function newStats(): LoaderStats {
  return {
    aborted: false,
    loaded: 0,
    retry: 0,
    total: 0,
    chunkCount: 0,
    bwEstimate: 0,
    loading: { start: 0, first: 0, end: 0 },
    parsing: { start: 0, end: 0 },
    buffering: { start: 0, first: 0, end: 0 },
  };
}
