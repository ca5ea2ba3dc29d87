// The do-no-harm record: a signed text of the device (JWS). Its signature is for others to check; the device that sends
// it is the one that this page came from, and browsers offer no cryptography to pages that come by plain http.

export interface HarmDay {
  day: string;
  shared_s: number;
  yields: number;
  yields_timed: number;
  yield_ms_total: number;
  yield_ms_max: number;
  over_budget_s: number;
  comparisons: number;
  rtt_on_us_total: number;
  rtt_off_us_total: number;
  felt: number;
}

export interface Harm {
  days: number;
  yields: number;
  /** Mean, in ms; null where none was timed. */
  yieldMs: number | null;
  /** What sharing adds to the way to the internet and back, in ms; null where it was never compared. */
  addedMs: number | null;
  comparisons: number;
  felt: number;
}

/** The days in a signed record; none where it is not one. */
export function daysOf(token: string): HarmDay[] {
  try {
    const payload = token.split(".")[1] ?? "";
    const text = atob(payload.replace(/-/g, "+").replace(/_/g, "/"));
    const value = JSON.parse(text) as { days?: HarmDay[] };
    return value.days ?? [];
  } catch {
    return [];
  }
}

export function totalOf(days: readonly HarmDay[]): Harm {
  const sum = (name: Exclude<keyof HarmDay, "day">) => days.reduce((total, one) => total + one[name], 0);
  const timed = sum("yields_timed");
  const comparisons = sum("comparisons");
  return {
    days: days.length,
    yields: sum("yields"),
    yieldMs: timed ? sum("yield_ms_total") / timed : null,
    addedMs: comparisons ? (sum("rtt_on_us_total") - sum("rtt_off_us_total")) / comparisons / 1000 : null,
    comparisons,
    felt: sum("felt"),
  };
}
