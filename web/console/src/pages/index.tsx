// All pages, by who may see them.
import type { ComponentChildren } from "preact";
import type { Session } from "../api";
import type { Route } from "../route";
import { t } from "../words";
import { Device } from "./device";
import { FleetPage } from "./fleet";

export interface Page {
  /** The first part of its address. */
  name: string;
  /** Further first parts that belong to it. */
  below?: readonly string[];
  title: () => string;
  show: (route: Route) => ComponentChildren;
}

export function pagesOf(session: Session): Page[] {
  return session.role === "operator" ? OPERATOR : [];
}

const OPERATOR: Page[] = [
  {
    name: "fleet",
    below: ["devices"],
    title: () => t("Fleet", "设备群"),
    show: (route) =>
      route.parts[0] === "devices" && route.parts[1] ? (
        <Device id={route.parts[1]} />
      ) : (
        <FleetPage route={route} />
      ),
  },
];
