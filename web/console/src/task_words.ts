// What tasks' kinds, states and reasons are called.

import { bytes, country, rate } from "./format";
import type { Tone } from "./parts";
import { t } from "./words";

export function taskState(state: string): readonly [tone: Tone, label: string] {
  switch (state) {
    case "pending":
      return ["warn", t("waiting", "等待中")];
    case "placed":
      return ["plain", t("placed", "已分配")];
    case "running":
      return ["plain", t("running", "进行中")];
    case "done":
      return ["good", t("done", "已完成")];
    case "failed":
      return ["bad", t("failed", "失败")];
    case "expired":
      return ["warn", t("expired", "已过期")];
    case "cancelled":
      return ["plain", t("cancelled", "已取消")];
    case "rejected":
      return ["warn", t("declined", "被拒绝")];
    default:
      return ["plain", state];
  }
}

export function kindOf(kind: string): string {
  switch (kind) {
    case "fill":
      return t("copy a file", "复制文件");
    case "drop":
      return t("drop a file", "移除文件");
    case "spread":
      return t("copy for demand", "按需复制");
    case "shed":
      return t("drop for room", "腾出空间");
    case "probe":
      return t("measure a target", "测量目标");
    case "live":
      return t("join a live stream", "加入直播");
    default:
      return kind;
  }
}

const REASONS: Record<string, readonly [en: string, zh: string]> = {
  unreachable: ["cannot be reached from outside", "外部不可达"],
  "other-family": ["has no address of the wanted family", "没有所需协议族的地址"],
  paused: ["paused by its owner", "已被主人暂停"],
  stale: ["no heartbeat lately", "近期没有心跳"],
  "service-off": ["its owner left this service out", "主人未开启此服务"],
  full: ["serves as many as its owner allows", "已达主人允许的连接数"],
  "line-busy": ["its line is busy now", "线路正忙"],
  "line-too-slow": ["its line is too slow", "线路太慢"],
  "too-few-bytes": ["foresees too little idle upload", "预测的闲置上行不足"],
  "processor-busy": ["its processor is busy", "处理器正忙"],
  "too-hot": ["too hot", "温度过高"],
  "no-disk": ["no room on its disk", "磁盘空间不足"],
  held: ["has it already", "已持有"],
  "failed-before": ["failed at it before", "此前失败过"],
  elsewhere: ["in another country", "在其他国家/地区"],
  "place-unknown": ["its country is not known", "所在地区未知"],
  "over-price": ["costs more than the task allows", "超过任务的价格上限"],
  "home-taken": ["another device of that home does it", "同一家庭的另一台设备在做"],
  "home-rested": ["that home did enough for now", "该家庭近期已承担足够多"],
};

export function reasonOf(reason: string): string {
  const known = REASONS[reason];
  return known ? t(known[0], known[1]) : reason;
}

const PARTS: Record<string, readonly [en: string, zh: string]> = {
  value: ["whole", "总分"],
  line_mbps: ["line, Mbit/s", "线路（Mbit/s）"],
  line: ["line", "线路"],
  disk_share: ["room on disk", "磁盘余量"],
  processor_share: ["processor", "处理器"],
  processor: ["processor", "处理器"],
  load_share: ["little waiting", "待办少"],
  chance: ["chance", "随机"],
};

export function partOf(part: string): string {
  const known = PARTS[part];
  return known ? t(known[0], known[1]) : part;
}

/** What a task wants of devices, in words; what it does not ask for is left out. */
export function needsOf(needs: Record<string, unknown>): [label: string, value: string][] {
  const told: [string, string][] = [];
  for (const [name, value] of Object.entries(needs)) {
    if (value === 0 || value === null || value === "any" || (Array.isArray(value) && value.length === 0))
      continue;
    if (name === "regions" && Array.isArray(value)) {
      told.push([t("Countries", "国家/地区"), value.map((one) => country(String(one))).join(", ")]);
    } else if (name === "up_bps") told.push([t("Idle upload from", "闲置上行不低于"), rate(Number(value))]);
    else if (name === "bytes") told.push([t("To be sent in time", "期限内可上传"), bytes(Number(value))]);
    else if (name === "disk_bytes") told.push([t("Free disk", "可用磁盘"), bytes(Number(value))]);
    else if (name === "processor_percent") told.push([t("Spare processor", "空闲处理器"), `${value} %`]);
    else if (name === "service") told.push([t("Service", "服务"), String(value)]);
    else if (name === "ports") told.push([t("Ports", "端口"), String(value)]);
    else told.push([name, typeof value === "string" ? value : JSON.stringify(value)]);
  }
  return told;
}
