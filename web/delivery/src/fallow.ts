// fallow.js: an object of a Fallow network, fetched from homes and verified, in any page.
import type { ByteRange, FallowEvent, ObjectOptions, SourceInfo } from "./api";
import { findObject } from "./scheduler";
import { ObjectSession } from "./session";

export { hlsLoader } from "./hls";
export { SchedulerError } from "./scheduler";
export type { ByteRange, FallowEvent, ObjectOptions, SourceInfo };

/** An object that is open: read any ranges of it, then close it. */
export type FallowObject = Pick<
  ObjectSession,
  "id" | "name" | "size" | "type" | "bytesBySource" | "stream" | "read" | "close"
>;

/**
 * Open the object at `address`: `https://scheduler/o/{id}/{name}`, or `https://scheduler/s/{site}/{path}`.
 *
 * @throws SchedulerError where the scheduler refuses or is away; Error where there is no object at this address.
 */
export async function openObject(address: string | URL, options: ObjectOptions = {}): Promise<FallowObject> {
  const url = new URL(address, globalThis.location?.href);
  const found = await findObject(url.href, options.signal ?? new AbortController().signal);
  if (found === undefined) throw new Error(`there is no object at ${url.href}`);
  return ObjectSession.open(found, options);
}

/** Fetch the object at `address`, or the `range` of it, in one piece. Its bytes are verified. */
export async function fetchObject(address: string | URL, options: ObjectOptions = {}): Promise<Blob> {
  const object = await openObject(address, options);
  try {
    return new Blob([await object.read(options.range)], { type: object.type });
  } finally {
    await object.close();
  }
}
