// Where the reader is, in the part of the address behind `#`: `#/fleet?country=DE&page=2`.
import { useEffect, useState } from "preact/hooks";

export interface Route {
  parts: readonly string[];
  query: URLSearchParams;
}

export function routeOf(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { parts, query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = () => setHash(location.hash);
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return routeOf(hash);
}

/** The same place with other parameters; empty ones are left out. Another filter begins at the first page. */
export function link(
  parts: readonly string[],
  query: Record<string, string | number | undefined> = {},
): string {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "" && !(name === "page" && Number(value) === 0)) {
      kept.set(name, String(value));
    }
  }
  const text = kept.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Change parameters of where the reader is, without a further step for the back button. */
export function turn(route: Route, changes: Record<string, string | number | undefined>): void {
  const query: Record<string, string | number | undefined> = Object.fromEntries(route.query);
  const target = link(route.parts, { ...query, ...changes });
  if (target === location.hash) return;
  history.replaceState(null, "", target);
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}
