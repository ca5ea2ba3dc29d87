// Ed25519 and SHA-256 in JavaScript, for pages without WebCrypto: it is there only where a page came by https.
import { hashes, keygen, sign, verify } from "@noble/ed25519";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import type { Crypto } from "./crypto";
import type { Bytes } from "./encoding";

hashes.sha512 = sha512;

export const pure: Crypto = {
  name: "javascript",
  sha256: async (bytes) => sha256(bytes) as Bytes,
  verify: async (key, signature, message) => verify(signature, message, key),
  generateKey: async () => {
    const { secretKey, publicKey } = keygen();
    return { publicKey: publicKey as Bytes, sign: async (message) => sign(message, secretKey) as Bytes };
  },
};
