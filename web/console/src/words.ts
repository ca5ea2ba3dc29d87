// The language of the page. Each text stands where it is used, in both languages.
import { currentLanguage, keepLanguage, type Language, say } from "../../shared/language";

let current: Language = currentLanguage();

export function language(): Language {
  return current;
}

export function choose(wanted: Language): void {
  current = wanted;
  keepLanguage(wanted);
  document.documentElement.lang = wanted === "zh" ? "zh-Hans" : "en";
}

/** `en` or `zh`, with each `{name}` replaced by its value. */
export function t(en: string, zh: string, values: Record<string, string | number> = {}): string {
  return say([en, zh], current, values);
}
