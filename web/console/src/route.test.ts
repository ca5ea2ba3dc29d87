import { expect, test } from "vitest";
import { link, routeOf } from "./route";

test("a place and its address are the same thing", () => {
  const hash = link(["devices", "a/b %"], { q: "x & y", page: 0, sort: undefined, state: "" });
  expect(hash).toBe("#/devices/a%2Fb%20%25?q=x+%26+y");
  const route = routeOf(hash);
  expect(route.parts).toEqual(["devices", "a/b %"]);
  expect(Object.fromEntries(route.query)).toEqual({ q: "x & y" });
});

test("no address, and one that is broken, lead somewhere", () => {
  expect(routeOf("").parts).toEqual([]);
  expect(routeOf("#/%E0%A4%A/x").parts).toEqual(["%E0%A4%A", "x"]);
});
