// All pages, by who may see them.
import type { ComponentChildren } from "preact";
import type { Session } from "../api";
import type { Route } from "../route";
import { t } from "../words";
import { Accounts } from "./accounts";
import { Device } from "./device";
import { FleetPage } from "./fleet";
import { Ledger } from "./ledger";
import { Objects } from "./objects";
import { Overview } from "./overview";
import { Reviews } from "./reviews";
import { Rewards } from "./rewards";
import { Sites } from "./sites";
import { Spending } from "./spending";
import { Tariffs } from "./tariffs";
import { Task } from "./task";
import { Tasks } from "./tasks";

export interface Page {
  /** The first part of its address. */
  name: string;
  /** Further first parts that belong to it. */
  below?: readonly string[];
  title: () => string;
  show: (route: Route) => ComponentChildren;
}

export function pagesOf(session: Session): Page[] {
  const publishes = session.role === "publisher";
  const tasks: Page = {
    name: "tasks",
    title: () => t("Tasks", "任务"),
    show: (route) =>
      route.parts[1] ? (
        <Task id={route.parts[1]} publishes={publishes} />
      ) : (
        <Tasks route={route} publishes={publishes} />
      ),
  };
  const objects: Page = {
    name: "objects",
    title: () => t("Files", "文件"),
    show: (route) => <Objects route={route} publishes={publishes} />,
  };
  const sites: Page = {
    name: "sites",
    title: () => t("Mirrored sites", "镜像站点"),
    show: (route) => <Sites route={route} publishes={publishes} />,
  };
  if (publishes) {
    return [
      { name: "", title: () => t("Points and spending", "积分与支出"), show: () => <Spending /> },
      objects,
      sites,
      tasks,
    ];
  }
  return [
    { name: "", title: () => t("Overview", "概览"), show: (route) => <Overview route={route} /> },
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
    tasks,
    objects,
    sites,
    { name: "ledger", title: () => t("Ledger", "账本"), show: () => <Ledger /> },
    {
      name: "reviews",
      title: () => t("Review queue", "审核队列"),
      show: (route) => <Reviews route={route} />,
    },
    { name: "tariffs", title: () => t("Tariff", "资费"), show: () => <Tariffs /> },
    { name: "rewards", title: () => t("Rewards", "奖励"), show: () => <Rewards /> },
    { name: "accounts", title: () => t("Accounts", "账户"), show: (route) => <Accounts route={route} /> },
  ];
}
