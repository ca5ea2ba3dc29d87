// What a device may be asked for under a ticket, and what is confirmed of it.
import { computing, type SigningKey } from "./crypto";
import { utf8 } from "./encoding";
import { jwkOf, type Keys, signed, thumbprint, verified } from "./jws";

const STEP_BYTES_MIN = 2 ** 20;
const STEP_BYTES_MAX = 8 * 2 ** 20;

/** Bytes that a device sends beyond the last receipt: two steps, of an eighth of what was confirmed. */
export function unacknowledgedBytesMax(confirmed: number): number {
  return 2 * Math.min(STEP_BYTES_MAX, Math.max(STEP_BYTES_MIN, Math.floor(confirmed / 8)));
}

/** The chunk that consumers of a crowd ask of this device first. */
export async function firstChunk(objectId: string, deviceId: string, chunks: number): Promise<number> {
  const { sha256 } = await computing();
  const digest = await sha256(utf8(`${objectId} ${deviceId}`));
  const head = new DataView(digest.buffer).getBigUint64(0);
  return Number(head % BigInt(Math.max(1, chunks)));
}

/** The key of one plan: it signs the receipts of that plan's tickets. */
export interface PlanKey {
  key: SigningKey;
  kid: string;
}

export async function newPlanKey(): Promise<PlanKey> {
  const { generateKey } = await computing();
  const key = await generateKey();
  return { key, kid: await thumbprint(key.publicKey) };
}

export interface Ticket {
  jti: string;
  maxBytes: number;
  lifetimeMs: number;
}

/** @throws Error for a ticket under which we could not confirm what we get. */
export async function verifiedTicket(
  token: string,
  keys: Keys,
  expected: { deviceId: string; objectId: string; key: PlanKey },
): Promise<Ticket> {
  const { value } = await verified(token, "fallow-ticket+jwt", keys);
  const { jti, aud, obj, max_bytes: maxBytes, iat, exp, cnf } = value;
  if (aud !== expected.deviceId || obj !== expected.objectId)
    throw new Error("it is for another device or object");
  const jwk = (cnf as { jwk?: { x?: unknown } } | undefined)?.jwk;
  if (jwk?.x !== jwkOf(expected.key.key.publicKey).x) throw new Error("it is not bound to our key");
  if (typeof jti !== "string" || typeof maxBytes !== "number") throw new Error("it is malformed");
  if (typeof iat !== "number" || typeof exp !== "number") throw new Error("it is malformed");
  return { jti, maxBytes, lifetimeMs: Math.max(0, exp - iat) * 1000 };
}

/** Cumulative receipts of one ticket. Only verified chunks may be confirmed. */
export class TicketReceipts {
  #n = 0;
  #bytes = 0;
  #ms = 0;
  #digest = "";
  #deliveredN = 0;
  #signing: { n: number; token: Promise<string> } | undefined;
  #signed: { n: number; token: string } | undefined;

  constructor(
    private readonly jti: string,
    private readonly key: PlanKey,
  ) {}

  /** @param digest hexadecimal SHA-256 of the chunk, verified just now. */
  confirm(length: number, ms: number, digest: string): void {
    this.#n += 1;
    this.#bytes += length;
    this.#ms += Math.max(0, Math.round(ms));
    this.#digest = digest;
  }

  /** The device does not have the newest receipt yet. */
  get isDue(): boolean {
    return this.#n > this.#deliveredN;
  }

  /** The newest receipt with its `n`; undefined while there is nothing to confirm. */
  async latest(): Promise<{ n: number; token: string } | undefined> {
    if (this.#n === 0) return undefined;
    if (this.#signing?.n !== this.#n) {
      const { jti } = this;
      const receipt = { jti, n: this.#n, bytes: this.#bytes, ms: this.#ms, digest: this.#digest };
      this.#signing = {
        n: this.#n,
        token: signed("fallow-receipt+jwt", receipt, this.key.key, this.key.kid),
      };
    }
    const { n, token } = this.#signing;
    const made = { n, token: await token };
    if (made.n > (this.#signed?.n ?? 0)) this.#signed = made;
    return made;
  }

  /** The newest receipt that is signed already: a page that is left has no time for more. */
  get signed(): { n: number; token: string } | undefined {
    return this.#signed;
  }

  /** The device has answered a request that carried receipt `n`. */
  delivered(n: number): void {
    this.#deliveredN = Math.max(this.#deliveredN, n);
  }
}
