// What devices' states and reachability are called.
import type { Tone } from "./parts";
import { t } from "./words";

export function stateOf(state: string): readonly [tone: Tone, label: string] {
  switch (state) {
    case "active":
      return ["good", t("active", "运行中")];
    case "paused":
      return ["warn", t("paused", "已暂停")];
    case "draining":
      return ["warn", t("leaving", "正在退出")];
    case "offline":
      return ["plain", t("offline", "离线")];
    case "unbound":
      return ["plain", t("without owner", "未绑定")];
    case "connecting":
      return ["plain", t("connecting", "连接中")];
    default:
      return ["plain", state];
  }
}

export function reachOf(reach: string): readonly [tone: Tone, label: string] {
  switch (reach) {
    case "open":
      return ["good", t("open", "直接可达")];
    case "mapped":
      return ["good", t("mapped by the router", "经路由器映射")];
    case "carrier":
      return ["bad", t("behind carrier NAT", "运营商 NAT 之后")];
    case "blocked":
      return ["bad", t("blocked", "被阻挡")];
    default:
      return ["plain", t("not known", "未知")];
  }
}
