// Ed25519 and SHA-256: the platform's, or JavaScript's where the platform has none.
import type { Bytes } from "./encoding";

export interface SigningKey {
  publicKey: Bytes;
  sign(message: Bytes): Promise<Bytes>;
}

export interface Crypto {
  name: "platform" | "javascript";
  sha256(bytes: Bytes): Promise<Bytes>;
  verify(publicKey: Bytes, signature: Bytes, message: Bytes): Promise<boolean>;
  generateKey(): Promise<SigningKey>;
}

const ED25519 = { name: "Ed25519" };

const platform: Crypto = {
  name: "platform",
  sha256: async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)),
  verify: async (publicKey, signature, message) => {
    const key = await crypto.subtle.importKey("raw", publicKey, ED25519, false, ["verify"]);
    return crypto.subtle.verify(ED25519, key, signature, message);
  },
  generateKey: async () => {
    const pair = (await crypto.subtle.generateKey(ED25519, false, ["sign", "verify"])) as CryptoKeyPair;
    return {
      publicKey: new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)),
      sign: async (message) => new Uint8Array(await crypto.subtle.sign(ED25519, pair.privateKey, message)),
    };
  },
};

async function choose(): Promise<Crypto> {
  if (globalThis.crypto?.subtle === undefined) return (await import("./pure")).pure;
  try {
    await platform.generateKey();
    return platform;
  } catch {
    // Browsers of before 2025 know digests, but not Ed25519.
    const { pure } = await import("./pure");
    return { ...pure, sha256: platform.sha256 };
  }
}

let chosen: Promise<Crypto> | undefined;

/** What this page computes with; the fallback is loaded when it is needed. */
export function computing(): Promise<Crypto> {
  chosen ??= choose().catch((error: unknown) => {
    chosen = undefined; // the fallback may come the next time
    throw error;
  });
  return chosen;
}
