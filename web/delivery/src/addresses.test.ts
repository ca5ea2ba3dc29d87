import { expect, test } from "vitest";
import { isMirrored, mayAsk, objectAt, withoutHelp } from "./addresses";

const ID = "ab".repeat(32);

test("an object is named by its address, below any path of a proxy", () => {
  const found = { scheduler: "https://cdn.example/fallow", id: ID, name: "a%20film.mp4" };
  expect(objectAt(`https://cdn.example/fallow/o/${ID}/a%20film.mp4?source=origin`)).toEqual(found);
  expect(objectAt(`https://cdn.example/o/${ID}`)).toBeUndefined();
  expect(objectAt("https://cdn.example/o/ab/film.mp4")).toBeUndefined();
});

test("a mirrored file has a site and a path, and no query", () => {
  expect(isMirrored("https://cdn.example/s/tv/film/seg1.ts")).toBe(true);
  expect(isMirrored("https://cdn.example/s/tv/film/seg1.ts?x=1")).toBe(false);
  expect(isMirrored("https://cdn.example/film/seg1.ts")).toBe(false);
});

test("pages that came by https may not ask by http, but of this computer", () => {
  expect(mayAsk("http:", "http://203.0.113.5:32557/o/x")).toBe(true);
  expect(mayAsk("https:", "http://203.0.113.5:32557/o/x")).toBe(false);
  expect(mayAsk("https:", "https://203.0.113.5:32557/o/x")).toBe(true);
  expect(mayAsk("https:", "http://127.0.0.1:32557/o/x")).toBe(true);
  expect(mayAsk("https:", "http://127.0.0.1.example/o/x")).toBe(false);
  expect(mayAsk("http:", "ftp://203.0.113.5/o/x")).toBe(false);
});

test("who has no device does not ask the origin for help only", () => {
  const origin = `https://cdn.example/o/${ID}/x?source=origin`;
  expect(withoutHelp(`${origin}&help=1`)).toBe(origin);
});
