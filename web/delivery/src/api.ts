// The types that a page sees.

/** First and last byte, both included, as in HTTP. */
export interface ByteRange {
  first: number;
  last: number;
}

/** Who sent bytes: a device in a home, or the origin. `country`: ISO 3166-1, where the scheduler knows it. */
export interface SourceInfo {
  id: string;
  kind: "device" | "origin";
  country?: string;
}

export type FallowEvent =
  /** The signed manifest is verified. */
  | { type: "opened"; object: string; name: string; size: number; mediaType: string }
  /** Devices that a plan offers; without any, the origin serves. */
  | { type: "planned"; sources: SourceInfo[] }
  /** A chunk came and is verified. */
  | { type: "bytes"; source: SourceInfo; bytes: number; chunk: number }
  /** A source sent bytes that are not the object's; a device that did is asked no more. */
  | { type: "refused"; source: SourceInfo; reason: string }
  /** A source refused or fell silent; what it was asked for is asked of others. */
  | { type: "lost"; source: SourceInfo; reason: string }
  /** The browser does not let this page ask devices: it came by https, and they speak http. The origin serves. */
  | { type: "barred"; devices: number; reason: "mixed-content" }
  /** A file that is no object here came from the address that it has. */
  | { type: "plain"; url: string; bytes: number };

export interface ObjectOptions {
  /** Ends everything; reads that wait fail with its reason. Receipts are still handed over. */
  signal?: AbortSignal | undefined;
  /** Is told what happens. */
  onEvent?: ((event: FallowEvent) => void) | undefined;
  /** What will be read of the object, where it is not all: tickets are then for that much. */
  range?: ByteRange | undefined;
}
