// Points, rewards and redemptions, as the device passes them on from the ledger.
import { call, Refused } from "./device";

export interface Day {
  day: string;
  micro_points: number;
  deliveries: number;
  reversed: number;
}

export interface Points {
  held: number;
  vested: number;
  redeeming: number;
  redeemed: number;
  age_s: number;
  days: Day[];
}

export interface Delivery {
  seq: number;
  at: number;
  jti: string;
  device: string;
  service: string;
  bytes: number;
  micro_points: number;
}

export interface Settlement {
  jti: string;
  service: string;
  tier: string;
  issued_at: number;
  booked_at: number;
  matures_at: number;
  late_at?: number;
  factors: { bytes: number; rate: number; quality: number; scarcity: number; weight: number };
  micro_points: number;
  reversed?: { micro_points: number; reason: string; at: number };
}

export interface Reward {
  id: string;
  title: string;
  micro_points: number;
  stock?: number;
  terms?: string;
}

export interface Redemption {
  id: string;
  reward: string;
  micro_points: number;
  state: "reserved" | "fulfilled" | "voided" | "unknown";
  code?: string;
  reason?: string;
}

/** Minutes that this reader's clock is before UTC's. */
const offset = () => -new Date().getTimezoneOffset();

export const points = () => call<Points>("GET", `v1/points?offset_min=${offset()}`);
export const deliveries = (day: string, after = 0) =>
  call<Delivery[]>("GET", `v1/points/${day}?offset_min=${offset()}&after=${after}`);
export const settlement = (jti: string) => call<Settlement>("GET", `v1/settlements/${jti}`);
export const rewards = () => call<Reward[]>("GET", "v1/rewards");
export const redemptions = () => call<Redemption[]>("GET", "v1/redemptions");

/** The last `count` days up to today in this reader's time, each with what was earned on it. */
export function lastDays(found: readonly Day[], count: number, now = Date.now()): Day[] {
  const known = new Map(found.map((one) => [one.day, one]));
  const local = now + offset() * 60_000;
  return [...Array(count).keys()].map((at) => {
    const name = new Date(local - (count - 1 - at) * 86_400_000).toISOString().slice(0, 10);
    return known.get(name) ?? { day: name, micro_points: 0, deliveries: 0, reversed: 0 };
  });
}

// ---------------------------------------------------------------- redeeming, exactly once

/** A redemption that was asked for and not answered yet. It outlives the page: the key is what makes it happen once. */
export interface Order {
  key: string;
  reward: string;
  title: string;
  micro_points: number;
}

const ORDER = "fallow.order";

export function openOrder(): Order | null {
  try {
    return JSON.parse(localStorage.getItem(ORDER) ?? "null") as Order | null;
  } catch {
    return null;
  }
}

/** The order for a reward: the one that is open, or a new one under a new random key. */
export function order(reward: Reward): Order {
  const open = openOrder();
  if (open) return open;
  const random = crypto.getRandomValues(new Uint8Array(16));
  const key = [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const made = { key, reward: reward.id, title: reward.title, micro_points: reward.micro_points };
  localStorage.setItem(ORDER, JSON.stringify(made));
  return made;
}

/** Whether an answer with this status settles the order; any other leaves open whether it happened. */
export function settles(status: number): boolean {
  return status >= 400 && status < 500 && ![401, 408, 409, 421, 425, 429].includes(status);
}

/** Ask for the order, again and again under the same key if need be; it is forgotten once there is a true answer. */
export async function redeem(asked: Order): Promise<Redemption> {
  try {
    const done = await call<Redemption>(
      "POST",
      "v1/redemptions",
      { reward: asked.reward },
      { "Idempotency-Key": asked.key },
    );
    localStorage.removeItem(ORDER);
    return done;
  } catch (error) {
    const refused = error instanceof Refused ? error : null;
    const final = ["not-enough-points", "out-of-stock", "under-review"].includes(refused?.problem.type ?? "");
    if (final || settles(refused?.status ?? 0)) localStorage.removeItem(ORDER);
    throw error;
  }
}
