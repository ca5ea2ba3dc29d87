// English and Chinese, chosen by the browser's first language and changed by the reader.

export type Language = "en" | "zh";

/** A text in both languages; `{name}` stands for a value. */
export type Text = readonly [en: string, zh: string];

const KEPT = "fallow.language";

/** The language of a reader who has chosen none: that of the browser. */
export function languageOf(preferred: readonly string[]): Language {
  return preferred[0]?.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function currentLanguage(): Language {
  const kept = localStorage.getItem(KEPT);
  return kept === "en" || kept === "zh" ? kept : languageOf(navigator.languages);
}

export function keepLanguage(language: Language): void {
  localStorage.setItem(KEPT, language);
}

/** `text` in `language`, with each `{name}` replaced by its value. */
export function say(text: Text, language: Language, values: Record<string, string | number> = {}): string {
  return text[language === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (whole, name: string) =>
    String(values[name] ?? whole),
  );
}
