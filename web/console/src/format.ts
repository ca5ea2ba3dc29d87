// Numbers, rates, points and times as people read them. Amounts keep three digits, which is more than they are true to.
import { language, t } from "./words";

const MICRO = 1_000_000;
const locale = () => (language() === "zh" ? "zh-CN" : "en-GB");

function scaled(value: number, step: number, units: readonly string[]): string {
  let rest = value;
  let unit = 0;
  while (Math.abs(rest) >= step * 0.9995 && unit < units.length - 1) {
    rest /= step;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(rest) >= 100 ? 0 : Math.abs(rest) >= 10 ? 1 : 2;
  const text = new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(rest);
  return `${text} ${units[unit]}`;
}

export function count(value: number): string {
  return new Intl.NumberFormat(locale()).format(value);
}

export function bytes(value: number): string {
  return scaled(value, 1000, ["B", "kB", "MB", "GB", "TB", "PB"]);
}

/** Bit/s. */
export function rate(value: number): string {
  return scaled(value, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]);
}

/** From µp. */
export function points(micro: number): string {
  const value = micro / MICRO;
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 1 ? 2 : 6;
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);
}

/** To µp; undefined for what is no amount of points. */
export function microPoints(text: string): number | undefined {
  const value = Number(text.trim().replace(/[,\s]/g, ""));
  const micro = Math.round(value * MICRO);
  return text.trim() !== "" && Number.isSafeInteger(micro) && micro > 0 ? micro : undefined;
}

export function share(value: number): string {
  return new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 1 }).format(value);
}

/** Unix seconds. */
export function time(at: number): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(at * 1000);
}

/** A day of the ledger (UTC), counted since 1970. */
export function day(number: number): string {
  const format = new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeZone: "UTC" });
  return format.format(number * 86_400_000);
}

/** How long ago, from Unix seconds. */
export function ago(at: number | null | undefined, now = Date.now() / 1000): string {
  if (at === null || at === undefined) return t("never", "从未");
  const passed = Math.max(0, now - at);
  if (passed < 45) return t("just now", "刚刚");
  const format = new Intl.RelativeTimeFormat(locale(), { style: "short" });
  if (passed < 3600) return format.format(-Math.round(passed / 60), "minute");
  if (passed < 2 * 86400) return format.format(-Math.round(passed / 3600), "hour");
  return format.format(-Math.round(passed / 86400), "day");
}

export function country(code: string | null | undefined): string {
  if (!code) return t("not known", "未知");
  try {
    return new Intl.DisplayNames(locale(), { type: "region" }).of(code) ?? code;
  } catch {
    return code;
  }
}

/** The beginning of a long id. */
export function short(id: string, length = 10): string {
  return id.length > length + 2 ? `${id.slice(0, length)}…` : id;
}
