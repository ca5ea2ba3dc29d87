// Where objects are, and what a page may ask at all.

const OBJECT_PATH = /^(.*)\/o\/([0-9a-f]{64})\/([^/]+)$/;
const MIRROR_PATH = /^(.*)\/s\/[a-z0-9.-]{1,64}\/.+$/;

/** An object at its scheduler; `name` is its last path segment, as written in addresses. */
export interface ObjectAddress {
  scheduler: string;
  id: string;
  name: string;
}

/** The object that `…/o/{id}/{name}` names; undefined for other addresses. */
export function objectAt(address: string): ObjectAddress | undefined {
  const url = new URL(address);
  const found = OBJECT_PATH.exec(url.pathname);
  const [, prefix, id, name] = found ?? [];
  if (prefix === undefined || id === undefined || name === undefined) return undefined;
  return { scheduler: url.origin + prefix, id, name };
}

/** Whether it is `…/s/{site}/{path}`, a file of a publisher's origin, which may lead to an object. */
export function isMirrored(address: string): boolean {
  const url = new URL(address);
  return MIRROR_PATH.test(url.pathname) && url.search === "";
}

/** Whether a page that came by `pageProtocol` may ask `address`: browsers block http from pages that came by https
 * (mixed content), but to this computer itself. */
export function mayAsk(pageProtocol: string, address: string): boolean {
  const { protocol, hostname } = new URL(address);
  if (protocol === "https:") return true;
  if (protocol !== "http:") return false;
  return pageProtocol !== "https:" || /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

/** The address at the origin for a consumer that has no device to turn to. */
export function withoutHelp(origin: string): string {
  const url = new URL(origin);
  url.searchParams.delete("help");
  return url.href;
}
