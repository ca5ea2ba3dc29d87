// Signed things (compact JWS, Ed25519), as docs/protocol.md has them: verified as received, parsed after.
import { computing, type SigningKey } from "./crypto";
import { type Bytes, base64url, fromBase64url, utf8 } from "./encoding";

export type Kind = "fallow-ticket+jwt" | "fallow-receipt+jwt" | "fallow-manifest+jwt";

/** The size limits of the wire, in characters. */
const SIZE_MAX: Record<Kind, number> = {
  "fallow-ticket+jwt": 4096,
  "fallow-receipt+jwt": 2048,
  "fallow-manifest+jwt": 16 * 2 ** 20,
};

export interface Jwk {
  kty: "OKP";
  crv: "Ed25519";
  x: string;
}

/** A server's keys by `kid`. */
export type Keys = ReadonlyMap<string, Bytes>;

/** JSON with sorted keys and without white space. Values are texts, whole numbers and objects of these. */
export function canonical(value: unknown): string {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  members.sort(([one], [other]) => (one < other ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(",")}}`;
}

export const jwkOf = (publicKey: Uint8Array): Jwk => ({
  kty: "OKP",
  crv: "Ed25519",
  x: base64url(publicKey),
});

/** RFC 7638: the `kid` of servers and consumers. */
export async function thumbprint(publicKey: Uint8Array): Promise<string> {
  const { sha256 } = await computing();
  return base64url(await sha256(utf8(canonical(jwkOf(publicKey)))));
}

/** @throws Error for a document that is no key set; keys of other kinds are passed over. */
export function keysOf(document: unknown): Keys {
  const found = new Map<string, Bytes>();
  const keys = (document as { keys?: unknown }).keys;
  if (!Array.isArray(keys)) throw new Error("this is no set of keys");
  for (const key of keys as Record<string, unknown>[]) {
    if (key.kty !== "OKP" || key.crv !== "Ed25519") continue;
    if (typeof key.kid !== "string" || typeof key.x !== "string") continue;
    const raw = fromBase64url(key.x);
    if (raw.length === 32) found.set(key.kid, raw);
  }
  return found;
}

/** The verified payload, as received and parsed. @throws Error naming what is wrong. */
export async function verified(
  token: string,
  kind: Kind,
  keys: Keys,
): Promise<{ payload: Bytes; value: Record<string, unknown> }> {
  if (token.length > SIZE_MAX[kind]) throw new Error(`a ${kind} over its limit`);
  const parts = token.split(".");
  const [head, body, mark] = parts;
  if (parts.length !== 3 || head === undefined || body === undefined || mark === undefined)
    throw new Error("a signed thing has three parts");
  const header = parsed(fromBase64url(head));
  const kid = header.kid;
  if (header.alg !== "EdDSA" || header.typ !== kind || Object.keys(header).length !== 3)
    throw new Error(`a ${kind} is wanted`);
  const key = typeof kid === "string" ? keys.get(kid) : undefined;
  if (key === undefined) throw new Error("signed with a key that is not known here");
  const { verify } = await computing();
  const signature = fromBase64url(mark);
  const input = utf8(token.slice(0, token.lastIndexOf(".")));
  if (signature.length !== 64 || !(await verify(key, signature, input)))
    throw new Error("the signature does not verify");
  const payload = fromBase64url(body);
  return { payload, value: parsed(payload) };
}

export async function signed(kind: Kind, value: object, key: SigningKey, kid: string): Promise<string> {
  const header = canonical({ alg: "EdDSA", typ: kind, kid });
  const input = `${base64url(utf8(header))}.${base64url(utf8(canonical(value)))}`;
  return `${input}.${base64url(await key.sign(utf8(input)))}`;
}

function parsed(bytes: Bytes): Record<string, unknown> {
  const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new Error("an object is wanted");
  return value as Record<string, unknown>;
}
