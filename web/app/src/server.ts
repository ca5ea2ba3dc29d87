// The server that the owner names: an account there, and a claim for this device. Only used while activating.
import { answerOf, type Problem, Refused } from "./device";

export interface Claim {
  claim_token: string;
  expires_at: number;
}

export interface Registration {
  open: boolean;
  password_chars_min: number;
}

/** What the owner typed as an address: without a scheme it is http where there is a port or a number, else https. */
export function addressOf(typed: string): string {
  const text = typed.trim().replace(/\/+$/, "");
  if (/^https?:\/\//i.test(text)) return text;
  const plain = /:\d+$/.test(text) || /^[\d.]+$/.test(text);
  return `${plain ? "http" : "https"}://${text}`;
}

async function ask<T>(
  server: string,
  method: string,
  path: string,
  body?: unknown,
  token?: string,
): Promise<T> {
  try {
    return await answerOf<T>(server + path, {
      method,
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    const problem: Problem = error instanceof Refused ? error.problem : { type: "server-away" };
    throw problem.type === "device-away" ? new Refused({ type: "server-away" }) : error;
  }
}

export const registration = (server: string) => ask<Registration>(server, "GET", "/v1/owners");

export const register = (server: string, login: string, password: string) =>
  ask<Claim>(server, "POST", "/v1/owners", { login, password });

export const signIn = (server: string, login: string, password: string) =>
  ask<Claim>(server, "POST", "/v1/owners/claims", { login, password });

/** With the token that an operator gave. */
export const claimByKey = (server: string, key: string) =>
  ask<Claim>(server, "POST", "/v1/claims", undefined, key.trim());
