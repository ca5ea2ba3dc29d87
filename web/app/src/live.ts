// The device's state as it changes: GET /v1/events, read as a stream because EventSource could not send the token in a
// header, and an address with the token in it would stay in histories.
import { useEffect, useState } from "preact/hooks";
import { phoneToken, type Status } from "./device";

export interface Sample {
  at: number;
  household: number;
  own: number;
  budget: number;
  capacity: number;
}

export interface Live {
  status: Status | null;
  samples: readonly Sample[];
  /** False once nothing has come for a while. */
  fresh: boolean;
  /** The device knows this phone no more. */
  forgotten: boolean;
}

export const SAMPLES_MAX = 120;
const SILENT_MS_MAX = 5000;
const AGAIN_MS = [500, 1000, 2000, 4000, 8000];
const EVENT_CHARS_MAX = 1024 * 1024;

/** The data of each complete event in `text`, and what is left over. */
export function eventsIn(text: string): { data: string[]; rest: string } {
  const blocks = text.split("\n\n");
  const rest = blocks.pop() ?? "";
  const data = blocks.map((block) =>
    block
      .split("\n")
      .filter((line) => line.startsWith("data:"))
      .map((line) => line.slice(5).trim())
      .join("\n"),
  );
  return { data: data.filter((one) => one !== ""), rest };
}

export function sampleOf(status: Status, at: number): Sample | null {
  if (!status.line) return null;
  return {
    at,
    household: status.line.household_up_bps,
    own: status.line.own_up_bps,
    budget: status.state === "active" ? (status.budget_up_bps ?? 0) : 0,
    capacity: status.line.up_capacity_bps,
  };
}

async function follow(signal: AbortSignal, take: (status: Status) => void): Promise<number> {
  const response = await fetch("v1/events", {
    headers: { Authorization: `Bearer ${phoneToken() ?? ""}`, Accept: "text/event-stream" },
    cache: "no-store",
    signal,
  });
  if (!response.ok || !response.body) return response.status;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return 200;
    const found = eventsIn(rest + decoder.decode(value, { stream: true }));
    rest = found.rest;
    if (rest.length > EVENT_CHARS_MAX) {
      await reader.cancel();
      return 200;
    }
    const newest = found.data.at(-1);
    if (newest !== undefined) take(JSON.parse(newest) as Status);
  }
}

/** Follows the device while the page is looked at; a hidden page costs the device nothing. */
export function useLive(): Live {
  const [live, setLive] = useState<Live>({ status: null, samples: [], fresh: true, forgotten: false });
  useEffect(() => {
    let stop = new AbortController();
    let failures = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let silence: ReturnType<typeof setTimeout> | undefined;

    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => setLive((before) => ({ ...before, fresh: false })), SILENT_MS_MAX);
    };
    const take = (status: Status) => {
      failures = 0;
      heard();
      const sample = sampleOf(status, Date.now());
      setLive((before) => ({
        status,
        samples: sample ? [...before.samples, sample].slice(-SAMPLES_MAX) : before.samples,
        fresh: true,
        forgotten: false,
      }));
    };
    const connect = async () => {
      stop = new AbortController();
      const { signal } = stop;
      heard();
      const status = await follow(signal, take).catch(() => 0);
      if (signal.aborted) return;
      if (status === 401) {
        setLive((before) => ({ ...before, forgotten: true }));
        return;
      }
      timer = setTimeout(connect, AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)]);
      failures += 1;
    };
    const look = () => {
      stop.abort();
      clearTimeout(timer);
      clearTimeout(silence);
      if (!document.hidden) {
        failures = 0;
        void connect();
      }
    };
    document.addEventListener("visibilitychange", look);
    window.addEventListener("online", look);
    look();
    return () => {
      document.removeEventListener("visibilitychange", look);
      window.removeEventListener("online", look);
      stop.abort();
      clearTimeout(timer);
      clearTimeout(silence);
    };
  }, []);
  return live;
}
