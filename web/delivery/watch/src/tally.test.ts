import { expect, test } from "vitest";
import type { FallowEvent, SourceInfo } from "../../src/fallow";
import { EMPTY, NOTES_MAX, percentFromHomes, told } from "./tally";

const home = (id: string, country?: string): SourceInfo =>
  country === undefined ? { id, kind: "device" } : { id, kind: "device", country };
const origin: SourceInfo = { id: "origin", kind: "origin" };
const after = (...events: FallowEvent[]) => events.reduce(told, EMPTY);
const bytes = (source: SourceInfo, count: number): FallowEvent => ({
  type: "bytes",
  source,
  bytes: count,
  chunk: 0,
});

test("homes are numbered as they come, and keep their numbers over plans", () => {
  const tally = after(
    { type: "planned", sources: [home("a", "DE"), home("b")] },
    bytes(home("b"), 5),
    { type: "planned", sources: [home("c"), home("a", "DE")] },
    bytes(home("c"), 7),
  );
  expect([...tally.homes.values()].map(({ number, country, bytes }) => [number, country, bytes])).toEqual([
    [1, "DE", 0],
    [2, undefined, 5],
    [3, undefined, 7],
  ]);
});

test("the share of homes is of all that came, and rounded down", () => {
  expect(percentFromHomes(EMPTY)).toBeUndefined();
  const plain: FallowEvent = { type: "plain", url: "x", bytes: 1 };
  expect(percentFromHomes(after(bytes(home("a"), 998), bytes(origin, 1), plain))).toBe(99);
});

test("a home that is lost is told once, until it sends again; lies are always told, and notes are few", () => {
  const lost: FallowEvent = { type: "lost", source: home("a"), reason: "status 503" };
  const refused: FallowEvent = { type: "refused", source: home("a"), reason: "wrong" };
  expect(after(lost, lost).notes).toHaveLength(1);
  expect(after(lost, bytes(home("a"), 1), lost).notes).toHaveLength(2);
  expect(after(lost, refused).notes[0]).toEqual({ kind: "refused", number: 1, country: undefined });
  expect(after(...Array<FallowEvent>(20).fill(refused)).notes).toHaveLength(NOTES_MAX);
  expect(after({ type: "lost", source: origin, reason: "x" }).notes[0]?.number).toBeUndefined();
});
