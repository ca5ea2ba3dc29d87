// All that is known of one device now.
import { useLive } from "../api";
import { Chart } from "../chart";
import { reachOf, stateOf } from "../device_words";
import { ago, bytes, count, country, rate, short, time } from "../format";
import { Badge, Card, Facts, Figures, Loaded } from "../parts";
import { link } from "../route";
import { t } from "../words";
import type { DeviceRow } from "./fleet";

interface Heartbeat {
  state: string;
  line: {
    up_capacity_bps: number;
    down_capacity_bps: number;
    household_up_bps: number;
    own_up_bps: number;
    idle_up_bps: number;
    rtt_ms?: number;
    rtt_base_ms?: number;
  };
  forecast_idle_up_bps: number[];
  disk: { free_bytes: number; used_bytes: number; quota_bytes: number; medium: string };
  processor: { cores: number; arch: string; spare_percent: number; temperature_c?: number };
  services: string[];
  connections: number;
  connections_max: number;
}

interface DeviceTold extends DeviceRow {
  connected_at?: number;
  service_urls?: string[];
  reach_ipv4?: string;
  reach_ipv6?: string;
  object_ids?: string[];
  committed_bytes?: number;
  heartbeat?: Heartbeat;
}

const HOUR_S = 3600;

export function Device(props: { id: string }) {
  const live = useLive<DeviceTold>(`devices/${encodeURIComponent(props.id)}`);
  return (
    <>
      <p>
        <a href={link(["fleet"])}>{t("← All devices", "← 全部设备")}</a>
      </p>
      <h1 class="id">
        <code>{props.id}</code>
      </h1>
      <Loaded live={live}>{(device) => <Told device={device} />}</Loaded>
    </>
  );
}

function Told(props: { device: DeviceTold }) {
  const { device } = props;
  const beat = device.heartbeat;
  const [tone, state] = stateOf(device.state);
  const reach = (word: string | undefined) => {
    const [kind, label] = reachOf(word ?? "unknown");
    return <Badge tone={kind}>{label}</Badge>;
  };
  return (
    <>
      <Figures
        of={[
          [t("Idle upload", "闲置上行"), beat ? rate(beat.line.idle_up_bps) : "–"],
          [t("Serves now", "正在服务"), `${count(device.connections)}`],
          [t("Files", "文件"), count(device.objects)],
          [t("Last seen", "最近在线"), ago(device.last_seen)],
        ]}
      />
      <div class="columns">
        <Card title={t("Device", "设备")}>
          <Facts
            of={[
              [t("State", "状态"), <Badge tone={tone}>{state}</Badge>],
              [
                t("Owner", "主人"),
                device.owner ? (
                  <a href={link(["fleet"], { owner: device.owner })}>{device.owner_name ?? device.owner}</a>
                ) : (
                  "–"
                ),
              ],
              [t("Model", "型号"), device.model],
              [t("Version", "版本"), device.version],
              [t("Bound since", "绑定时间"), device.bound_at ? time(device.bound_at) : "–"],
              [t("Connected since", "连接时间"), device.connected_at ? time(device.connected_at) : "–"],
              [
                t("Country and network", "地区与网络"),
                device.connected ? `${country(device.country)}${device.asn ? `, AS${device.asn}` : ""}` : "–",
              ],
            ]}
          />
        </Card>
        <Card title={t("Reachability", "可达性")}>
          <Facts
            of={[
              ["IPv4", reach(device.reach_ipv4)],
              ["IPv6", reach(device.reach_ipv6)],
              [
                t("Answered at", "应答地址"),
                device.service_urls?.length
                  ? device.service_urls.map((url) => <code key={url}>{url} </code>)
                  : "–",
              ],
              [t("Services", "服务"), beat?.services.join(", ") || "–"],
            ]}
          />
        </Card>
        {beat && (
          <Card title={t("Line", "线路")}>
            <Facts
              of={[
                [t("Capacity up", "上行容量"), rate(beat.line.up_capacity_bps)],
                [t("Capacity down", "下行容量"), rate(beat.line.down_capacity_bps)],
                [t("Household now, up", "家庭当前上行"), rate(beat.line.household_up_bps)],
                [t("Fallow now, up", "Fallow 当前上行"), rate(beat.line.own_up_bps)],
                [
                  t("Round trip now / at rest", "当前/空闲往返时延"),
                  beat.line.rtt_ms !== undefined
                    ? `${beat.line.rtt_ms} / ${beat.line.rtt_base_ms ?? "–"} ms`
                    : "–",
                ],
              ]}
            />
          </Card>
        )}
        {beat && (
          <Card title={t("Machine", "机器")}>
            <Facts
              of={[
                [
                  t("Disk for Fallow", "Fallow 磁盘"),
                  `${bytes(beat.disk.used_bytes)} / ${bytes(beat.disk.quota_bytes)} (${beat.disk.medium})`,
                ],
                [
                  t("Promised to copies under way", "已预留给正在复制的内容"),
                  bytes(device.committed_bytes ?? 0),
                ],
                [
                  t("Processor", "处理器"),
                  t("{cores} cores, {arch}, {spare} % spare", "{cores} 核，{arch}，空闲 {spare} %", {
                    cores: beat.processor.cores,
                    arch: beat.processor.arch,
                    spare: beat.processor.spare_percent,
                  }),
                ],
                [
                  t("Temperature", "温度"),
                  beat.processor.temperature_c ? `${beat.processor.temperature_c} °C` : "–",
                ],
                [t("Connections at most", "连接上限"), count(beat.connections_max)],
              ]}
            />
          </Card>
        )}
      </div>
      {beat && (
        <Card title={t("Idle upload that it foresees", "预测的闲置上行")}>
          <Forecast hours={beat.forecast_idle_up_bps} />
        </Card>
      )}
      {!!device.object_ids?.length && (
        <Card title={t("Files that it holds", "持有的文件")}>
          <ul class="ids">
            {device.object_ids.map((id) => (
              <li key={id}>
                <code title={id}>{short(id, 16)}</code>
              </li>
            ))}
          </ul>
          {device.objects > device.object_ids.length && (
            <p class="soft">
              {t("and {n} more", "另有 {n} 个", { n: device.objects - device.object_ids.length })}
            </p>
          )}
        </Card>
      )}
    </>
  );
}

function Forecast(props: { hours: number[] }) {
  const first = Math.floor(Date.now() / 1000 / HOUR_S) * HOUR_S;
  return (
    <Chart
      label={t("Idle upload in the coming 24 hours", "未来 24 小时的闲置上行")}
      at={props.hours.map((_, hour) => first + hour * HOUR_S)}
      series={[
        { label: t("idle upload", "闲置上行"), tone: "leaf", values: props.hours, step: true, fill: true },
      ]}
      unit={rate}
    />
  );
}
