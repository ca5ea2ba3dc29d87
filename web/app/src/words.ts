// Texts in the reader's language, and numbers, sizes and times as people say them.
import { currentLanguage, keepLanguage, type Language, say, type Text } from "../../shared/language";

let language: Language = currentLanguage();
const listeners = new Set<() => void>();

export function speaking(): Language {
  return language;
}

/** The tag that names the language to the browser, for its voice and its fonts. */
export function languageTag(): string {
  return language === "zh" ? "zh-Hans" : "en";
}

export function speak(wanted: Language): void {
  language = wanted;
  keepLanguage(wanted);
  for (const listener of listeners) listener();
}

export function onLanguage(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function t(text: Text, values: Record<string, string | number> = {}): string {
  return say(text, language, values);
}

const locale = () => (language === "zh" ? "zh-CN" : "en-GB");

/** With at most `digits` places, as many as help: 0.42, 7.3, 180. */
export function number(value: number, digits = 1): string {
  const places = value !== 0 && Math.abs(value) < 1 ? digits + 1 : Math.abs(value) < 100 ? digits : 0;
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: places }).format(value);
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(value: number): string {
  let rest = value;
  let unit = 0;
  while (rest >= 999.5 && unit < UNITS.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  return `${number(rest, unit < 2 ? 0 : 1)} ${UNITS[unit]}`;
}

/** A rate in Mbit/s, the unit of contracts. */
export function rate(bps: number): string {
  return `${number(bps / 1e6)} ${t(["Mbit/s", "Mbit/s"])}`;
}

/** Micro-points as points. */
export function points(micro: number): string {
  const value = micro / 1e6;
  const places = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 2 : 4;
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: places }).format(value);
}

export function clock(unixS: number): string {
  return new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit" }).format(unixS * 1000);
}

export function date(unixS: number): string {
  return new Intl.DateTimeFormat(locale(), { day: "numeric", month: "long" }).format(unixS * 1000);
}

/** Of a calendar day such as 2026-11-28, wherever it is. */
export function day(name: string, long = false): string {
  const options: Intl.DateTimeFormatOptions = long
    ? { weekday: "long", day: "numeric", month: "long", timeZone: "UTC" }
    : { day: "numeric", month: "short", timeZone: "UTC" };
  return new Intl.DateTimeFormat(locale(), options).format(new Date(`${name}T00:00:00Z`));
}

export function moment(unixS: number): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(unixS * 1000);
}

/** A span as a person would round it. */
export function span(seconds: number): string {
  if (seconds < 90) return t(["a minute", "一分钟"]);
  if (seconds < 5400) return t(["{n} minutes", "{n} 分钟"], { n: Math.round(seconds / 60) });
  if (seconds < 129_600) return t(["{n} hours", "{n} 小时"], { n: Math.round(seconds / 3600) });
  return t(["{n} days", "{n} 天"], { n: Math.round(seconds / 86_400) });
}

/** Names of the days from Monday on, short. */
export function weekdays(style: "short" | "long" = "short"): string[] {
  const format = new Intl.DateTimeFormat(locale(), { weekday: style, timeZone: "UTC" });
  return [...Array(7).keys()].map((offset) => format.format(Date.UTC(2024, 0, 1 + offset)));
}
