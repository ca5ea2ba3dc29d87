import { expect, test } from "vitest";
import { changesOf, draftOf, payloadOf, type TariffTerms, termsOf } from "./tariff";

const TARIFF: TariffTerms = {
  valid_from: 1_800_000_000,
  rates: { object: 1_000_000, fill: 250_000, live: 1_000_001, probe: 0 },
  weights: { countersigned: 1000, legacy: 500 },
  legacy_caps: { device_day_bytes: 50 * 2 ** 30, publisher_day_bytes: 500 * 2 ** 30 },
  trust: [
    { audits: 0, permille: 100 },
    { audits: 20, permille: 1000 },
  ],
  quality: [{ delivered: 250, permille: 905 }],
  scarcity: {
    "*": Array.from({ length: 24 }, (_, hour) => 1000 + hour),
    DE: new Array<number>(24).fill(1250),
  },
};

test("what is edited and left alone stays as it was, to the last digit", () => {
  expect(termsOf(draftOf(TARIFF), TARIFF.valid_from)).toEqual({ terms: TARIFF, faults: [] });
  const bare = { ...TARIFF };
  delete bare.trust;
  delete bare.quality;
  delete bare.scarcity;
  expect(termsOf(draftOf(bare), 5).terms).toEqual({ ...bare, valid_from: 5 });
});

test("what is no number is named", () => {
  const draft = draftOf(TARIFF);
  draft.rates.object = "1,5";
  draft.weights.legacy = "-1";
  draft.device_day_gib = "";
  draft.scarcity[1] = { region: "Germany", percents: "100, 100" };
  expect(termsOf(draft, 1)).toEqual({
    faults: ["rates.object", "weights.legacy", "device_day_gib", "scarcity.1.percents", "scarcity.1.region"],
  });
});

test("changes are told by their place; what is left out is worth nothing", () => {
  const after = { ...TARIFF, rates: { object: 2_000_000, fill: 250_000, live: 1_000_001 } };
  expect(changesOf(TARIFF, after)).toEqual([["rates.object", "1000000", "2000000"]]);
});

test("the payload of a signed document is read as UTF-8", () => {
  const body = btoa(String.fromCharCode(...new TextEncoder().encode('{"name":"资费"}')));
  expect(payloadOf(`x.${body.replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "")}.y`)).toEqual({
    name: "资费",
  });
});
