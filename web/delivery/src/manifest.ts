// What an object is made of: its size and the SHA-256 of each chunk, under the id that is the manifest's own digest.
import { computing } from "./crypto";
import { type Bytes, hex } from "./encoding";
import { type Keys, verified } from "./jws";

export interface Manifest {
  size: number;
  type: string;
  chunkSize: number;
  chunks: readonly string[];
}

const CHUNK_BYTES = 2 ** 20;
const DIGEST = /^[0-9a-f]{64}$/;

/** @throws Error unless it is the scheduler's manifest of exactly this object. */
export async function verifiedManifest(token: string, keys: Keys, objectId: string): Promise<Manifest> {
  const { payload, value } = await verified(token, "fallow-manifest+jwt", keys);
  const { sha256 } = await computing();
  if (hex(await sha256(payload)) !== objectId) throw new Error("this is the manifest of another object");
  const { size, type, chunk_size: chunkSize, chunks } = value;
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0 || typeof type !== "string")
    throw new Error("the manifest's size or type is malformed");
  if (chunkSize !== CHUNK_BYTES || !Array.isArray(chunks) || chunks.length !== Math.ceil(size / CHUNK_BYTES))
    throw new Error("the manifest's number of chunks does not fit its size");
  if (!chunks.every((one) => typeof one === "string" && DIGEST.test(one)))
    throw new Error("the manifest's digests are malformed");
  return { size, type, chunkSize, chunks: chunks as string[] };
}

/** Offset and length of a chunk, in bytes. */
export function chunkSpan(manifest: Manifest, chunk: number): { start: number; length: number } {
  const start = chunk * manifest.chunkSize;
  return { start, length: Math.min(manifest.chunkSize, manifest.size - start) };
}

/** Whether `bytes` are exactly this chunk. */
export async function isChunk(manifest: Manifest, chunk: number, bytes: Bytes): Promise<boolean> {
  if (bytes.length !== chunkSpan(manifest, chunk).length) return false;
  const { sha256 } = await computing();
  return hex(await sha256(bytes)) === manifest.chunks[chunk];
}
