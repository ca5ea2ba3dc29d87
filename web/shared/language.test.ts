import { expect, test } from "vitest";
import { languageOf, say } from "./language";

test("the browser's first language decides", () => {
  expect(languageOf(["zh-CN", "en"])).toBe("zh");
  expect(languageOf(["de", "zh-CN"])).toBe("en");
  expect(languageOf([])).toBe("en");
});

test("values stand where they are named; an unknown name stays visible", () => {
  expect(say(["{n} homes of {m}", "{m} 户中的 {n} 户"], "zh", { n: 2, m: 5 })).toBe("5 户中的 2 户");
  expect(say(["{n} homes", "{n} 户"], "en")).toBe("{n} homes");
});
