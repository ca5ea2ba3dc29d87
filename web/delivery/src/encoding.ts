// Bytes as text and back.

export type Bytes = Uint8Array<ArrayBuffer>;

const TEXT = new TextEncoder();
const BASE64URL = /^[A-Za-z0-9_-]*$/;

export const utf8 = (text: string): Bytes => TEXT.encode(text);

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

export function base64url(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** @throws Error for anything but base64url without padding. */
export function fromBase64url(text: string): Bytes {
  if (!BASE64URL.test(text) || text.length % 4 === 1) throw new Error("this is not base64url");
  const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  const tail = bytes.length % 3;
  if (tail > 0 && base64url(bytes.subarray(bytes.length - tail)) !== text.slice(-(tail + 1)))
    throw new Error("this is not base64url"); // stray bits: one thing would have many texts
  return bytes;
}
