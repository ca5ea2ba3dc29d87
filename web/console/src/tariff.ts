// A tariff as people edit it: points instead of µp, per cent instead of per mille, GiB instead of bytes.

export interface Step {
  from: number;
  permille: number;
}

/** What the ledger takes and gives. */
export interface TariffTerms {
  valid_from: number;
  rates: Record<string, number>;
  weights: Record<string, number>;
  legacy_caps: { device_day_bytes: number; publisher_day_bytes: number };
  trust?: { audits: number; permille: number }[];
  quality?: { delivered: number; permille: number }[];
  scarcity?: Record<string, number[]>;
}

/** Texts of the fields. */
export interface Draft {
  rates: Record<string, string>;
  weights: Record<string, string>;
  device_day_gib: string;
  publisher_day_gib: string;
  trust: { from: string; percent: string }[];
  quality: { from: string; percent: string }[];
  scarcity: { region: string; percents: string }[];
}

export const SERVICES = ["object", "fill", "live", "probe"];
export const TIERS = ["countersigned", "legacy"];
const GIB = 2 ** 30;
const MICRO = 1_000_000;
const HOURS = 24;

const plain = (value: number) => String(Number(value.toPrecision(12)));
const percent = (permille: number) => plain(permille / 10);

export function draftOf(tariff: TariffTerms): Draft {
  const texts = (names: readonly string[], of: Record<string, number>, text: (value: number) => string) =>
    Object.fromEntries(
      [...new Set([...names, ...Object.keys(of)])].map((name) => [name, text(of[name] ?? 0)]),
    );
  return {
    rates: texts(SERVICES, tariff.rates, (value) => plain(value / MICRO)),
    weights: texts(TIERS, tariff.weights, percent),
    device_day_gib: plain(tariff.legacy_caps.device_day_bytes / GIB),
    publisher_day_gib: plain(tariff.legacy_caps.publisher_day_bytes / GIB),
    trust: (tariff.trust ?? []).map((one) => ({ from: plain(one.audits), percent: percent(one.permille) })),
    quality: (tariff.quality ?? []).map((one) => ({
      from: percent(one.delivered),
      percent: percent(one.permille),
    })),
    scarcity: Object.entries(tariff.scarcity ?? {}).map(([region, hours]) => ({
      region,
      percents: hours.map(percent).join(", "),
    })),
  };
}

/** The draft as the ledger takes it, or the names of the fields that are not numbers as they should be. */
export function termsOf(draft: Draft, valid_from: number): { terms?: TariffTerms; faults: string[] } {
  const faults: string[] = [];
  const number = (text: string, scale: number, name: string): number => {
    const value = Number(text.trim());
    const scaled = Math.round(value * scale);
    if (text.trim() === "" || !(value >= 0) || !Number.isSafeInteger(scaled)) faults.push(name);
    return scaled;
  };
  const table = (of: Record<string, string>, scale: number, kind: string) =>
    Object.fromEntries(
      Object.entries(of).map(([name, text]) => [name, number(text, scale, `${kind}.${name}`)]),
    );
  const terms: TariffTerms = {
    valid_from,
    rates: table(draft.rates, MICRO, "rates"),
    weights: table(draft.weights, 10, "weights"),
    legacy_caps: {
      device_day_bytes: number(draft.device_day_gib, GIB, "device_day_gib"),
      publisher_day_bytes: number(draft.publisher_day_gib, GIB, "publisher_day_gib"),
    },
  };
  if (draft.trust.length > 0) {
    terms.trust = draft.trust.map((one, row) => ({
      audits: number(one.from, 1, `trust.${row}.from`),
      permille: number(one.percent, 10, `trust.${row}.percent`),
    }));
  }
  if (draft.quality.length > 0) {
    terms.quality = draft.quality.map((one, row) => ({
      delivered: number(one.from, 10, `quality.${row}.from`),
      permille: number(one.percent, 10, `quality.${row}.percent`),
    }));
  }
  if (draft.scarcity.length > 0) {
    terms.scarcity = Object.fromEntries(
      draft.scarcity.map((one, row) => {
        const hours = one.percents.split(/[,\s]+/).filter(Boolean);
        if (hours.length !== HOURS) faults.push(`scarcity.${row}.percents`);
        if (!/^([A-Z]{2}|\*)$/.test(one.region)) faults.push(`scarcity.${row}.region`);
        return [one.region, hours.map((text) => number(text, 10, `scarcity.${row}.percents`))];
      }),
    );
  }
  return faults.length > 0 ? { faults } : { terms, faults };
}

/** What differs, as a path with the value before and after. */
export function changesOf(
  before: TariffTerms,
  after: TariffTerms,
): [path: string, before: string, after: string][] {
  const one = flat(before);
  const other = flat(after);
  const names = [...new Set([...one.keys(), ...other.keys()])].sort();
  return names
    .filter(
      (name) =>
        name !== "valid_from" && name !== "version" && (one.get(name) ?? "0") !== (other.get(name) ?? "0"),
    )
    .map((name) => [name, one.get(name) ?? "–", other.get(name) ?? "–"]);
}

function flat(value: unknown, path = "", found = new Map<string, string>()): Map<string, string> {
  if (Array.isArray(value) && value.every((one) => typeof one === "number")) found.set(path, value.join(" "));
  else if (typeof value === "object" && value !== null) {
    for (const [name, part] of Object.entries(value)) flat(part, path ? `${path}.${name}` : name, found);
  } else found.set(path, String(value));
  return found;
}

/** The payload of a signed document; what it says, and no proof of it: the ledger checked it. */
export function payloadOf<T>(token: string): T {
  const text = atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0)))) as T;
}
