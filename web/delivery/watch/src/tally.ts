// What came from where, and what happened, as the page shows it. Pure.
import type { FallowEvent, SourceInfo } from "../../src/fallow";

export const NOTES_MAX = 6;

export interface Origin {
  bytes: number;
}

/** A home by the number that this page gives it: ids and addresses are nobody's business here. */
export interface Home {
  number: number;
  country: string | undefined;
  bytes: number;
  lost: boolean;
}

export interface Note {
  kind: "lost" | "refused";
  /** Of a home; undefined for the origin. */
  number: number | undefined;
  country: string | undefined;
}

export interface Tally {
  name: string;
  homes: ReadonlyMap<string, Home>;
  originBytes: number;
  barred: boolean;
  notes: readonly Note[];
}

export const EMPTY: Tally = { name: "", homes: new Map(), originBytes: 0, barred: false, notes: [] };

export function told(tally: Tally, event: FallowEvent): Tally {
  switch (event.type) {
    case "opened":
      return tally.name === "" ? { ...tally, name: event.name } : tally;
    case "planned":
      return { ...tally, homes: event.sources.reduce(known, tally.homes) };
    case "plain":
      return { ...tally, originBytes: tally.originBytes + event.bytes };
    case "barred":
      return { ...tally, barred: true };
    case "bytes": {
      const { source, bytes } = event;
      if (source.kind === "origin") return { ...tally, originBytes: tally.originBytes + bytes };
      return {
        ...tally,
        homes: changed(tally.homes, source, (home) => ({ ...home, bytes: home.bytes + bytes, lost: false })),
      };
    }
    case "lost":
    case "refused": {
      const { source, type: kind } = event;
      if (source.kind === "origin")
        return { ...tally, notes: noted(tally.notes, { kind, number: undefined, country: undefined }) };
      const before = known(tally.homes, source).get(source.id);
      const homes = changed(tally.homes, source, (home) => ({ ...home, lost: true }));
      if (before === undefined || (before.lost && kind === "lost")) return { ...tally, homes };
      const { number, country } = before;
      return { ...tally, homes, notes: noted(tally.notes, { kind, number, country }) };
    }
  }
}

/** Verified bytes that homes sent, in whole percent of all; undefined while nothing came. */
export function percentFromHomes({ homes, originBytes }: Tally): number | undefined {
  const fromHomes = [...homes.values()].reduce((sum, home) => sum + home.bytes, 0);
  const total = fromHomes + originBytes;
  return total === 0 ? undefined : Math.floor((100 * fromHomes) / total);
}

function known(homes: ReadonlyMap<string, Home>, source: SourceInfo): ReadonlyMap<string, Home> {
  if (homes.has(source.id)) return homes;
  const home = { number: homes.size + 1, country: source.country, bytes: 0, lost: false };
  return new Map([...homes, [source.id, home]]);
}

function changed(
  homes: ReadonlyMap<string, Home>,
  source: SourceInfo,
  change: (home: Home) => Home,
): ReadonlyMap<string, Home> {
  const all = new Map(known(homes, source));
  const home = all.get(source.id);
  if (home !== undefined) all.set(source.id, change(home));
  return all;
}

function noted(notes: readonly Note[], note: Note): readonly Note[] {
  return [note, ...notes].slice(0, NOTES_MAX);
}
