// What the Python code signs we read, and what we sign is byte for byte what it would: `vectors.json` is made by it.
import { getPublicKey, sign } from "@noble/ed25519";
import { describe, expect, test } from "vitest";
import { computing } from "./crypto";
import { type Bytes, base64url, fromBase64url, utf8 } from "./encoding";
import { canonical, keysOf, thumbprint, verified } from "./jws";
import { chunkSpan, isChunk, verifiedManifest } from "./manifest";
import { pure } from "./pure";
import { firstChunk, TicketReceipts, unacknowledgedBytesMax, verifiedTicket } from "./tickets";
import vectors from "./vectors.json";

const keys = keysOf(vectors.jwks);
const seed = fromBase64url(vectors.consumer.seed);
const consumer = {
  kid: vectors.consumer.kid,
  key: {
    publicKey: fromBase64url(vectors.consumer.public),
    sign: async (message: Bytes) => sign(message, seed) as Bytes,
  },
};
const expected = { deviceId: vectors.device, objectId: vectors.object, key: consumer };

test("base64url is strict, and goes both ways", () => {
  for (const length of [0, 1, 2, 3, 64]) {
    const bytes = Uint8Array.from({ length }, (_, at) => (at * 83 + 250) % 256);
    expect(fromBase64url(base64url(bytes))).toEqual(bytes);
  }
  for (const bad of ["a", "ab=", "a+b/", "a b", "AB", "AAB"]) expect(() => fromBase64url(bad)).toThrow();
});

test("canonical JSON is sorted and leaves out what is not set", () => {
  expect(canonical({ b: 1, a: { d: "é", c: [1, "x"] }, e: undefined })).toBe(
    '{"a":{"c":[1,"x"],"d":"é"},"b":1}',
  );
});

describe("the manifest", () => {
  test("that the scheduler signed is taken", async () => {
    const manifest = await verifiedManifest(vectors.manifest, keys, vectors.object);
    expect(manifest).toMatchObject({ size: 2 ** 20 + 8, type: "video/mp4" });
    expect(chunkSpan(manifest, 1)).toEqual({ start: 2 ** 20, length: 8 });
    const chunk = new Uint8Array(2 ** 20).fill(1);
    expect(await isChunk(manifest, 0, chunk)).toBe(true);
    chunk[77] = 2;
    expect(await isChunk(manifest, 0, chunk)).toBe(false);
    expect(await isChunk(manifest, 1, utf8("the rest"))).toBe(true);
    expect(await isChunk(manifest, 1, utf8("the rest and more"))).toBe(false);
  });

  test("of a stranger, of another object, changed or of another kind is refused", async () => {
    const other = vectors.object.replace(/^./, (first) => (first === "0" ? "1" : "0"));
    const [head, body, mark] = vectors.manifest.split(".");
    const changed = `${head}.${body?.replace(/^.../, "eyA")}.${mark}`;
    for (const [token, id] of [
      [vectors.manifest_of_a_stranger, vectors.object],
      [vectors.manifest, other],
      [changed, vectors.object],
      [vectors.ticket, vectors.object],
      [`${vectors.manifest}.`, vectors.object],
    ] as const)
      await expect(verifiedManifest(token, keys, id)).rejects.toThrow();
  });
});

describe("a ticket", () => {
  test("for us is taken", async () => {
    const ticket = await verifiedTicket(vectors.ticket, keys, expected);
    expect(ticket).toMatchObject({ maxBytes: 2 ** 20 + 8, lifetimeMs: 900_000 });
  });

  test("for another device, object or key is refused", async () => {
    const stranger = { ...consumer, key: { ...consumer.key, publicKey: new Uint8Array(32) } };
    for (const other of [{ deviceId: "fd-other" }, { objectId: "00" }, { key: stranger }])
      await expect(verifiedTicket(vectors.ticket, keys, { ...expected, ...other })).rejects.toThrow();
  });
});

describe("receipts", () => {
  test("are those that Python signs, and cumulative", async () => {
    const { payload } = await verified(vectors.ticket, "fallow-ticket+jwt", keys);
    const { jti } = JSON.parse(new TextDecoder().decode(payload));
    const { chunks } = await verifiedManifest(vectors.manifest, keys, vectors.object);
    const receipts = new TicketReceipts(jti, consumer);
    expect(await receipts.latest()).toBeUndefined();
    receipts.confirm(2 ** 20, 119.6, chunks[0] as string);
    expect(await receipts.latest()).toEqual({ n: 1, token: vectors.receipts[0] });
    receipts.confirm(8, 3.2, chunks[1] as string);
    expect(await receipts.latest()).toEqual({ n: 2, token: vectors.receipts[1] });
    expect(receipts.isDue).toBe(true);
    receipts.delivered(1);
    expect(receipts.isDue).toBe(true);
    receipts.delivered(2);
    expect(receipts.isDue).toBe(false);
  });

  test("are named by the thumbprint of their key", async () => {
    expect(await thumbprint(consumer.key.publicKey)).toBe(vectors.consumer.kid);
  });
});

test("JavaScript computes what the platform computes", async () => {
  const platform = await computing();
  expect(platform.name).toBe("platform");
  const message = utf8("one message");
  expect(await pure.sha256(message)).toEqual(await platform.sha256(message));
  const [mine, theirs] = [await pure.generateKey(), await platform.generateKey()];
  expect(await platform.verify(mine.publicKey, await mine.sign(message), message)).toBe(true);
  expect(await pure.verify(theirs.publicKey, await theirs.sign(message), message)).toBe(true);
  expect(await pure.verify(mine.publicKey, await theirs.sign(message), message)).toBe(false);
  expect(getPublicKey(seed)).toEqual(consumer.key.publicKey);
});

test("windows and first chunks are Python's", async () => {
  for (const [confirmed, window] of Object.entries(vectors.windows))
    expect(unacknowledgedBytesMax(Number(confirmed))).toBe(window);
  const { sha256 } = await computing();
  const { hex } = await import("./encoding");
  for (const [name, chunk] of Object.entries(vectors.first_chunks))
    expect(await firstChunk(hex(await sha256(utf8(name))), vectors.device, 2 ** 20 + 7)).toBe(chunk);
});
