// All devices: by country, and as a table that the server filters, sorts and cuts into pages.
import { useLive } from "../api";
import { reachOf, stateOf } from "../device_words";
import { ago, count, country, rate, short } from "../format";
import { Badge, Card, Choice, type Column, Figures, Loaded, Table } from "../parts";
import { link, type Route, turn } from "../route";
import { t } from "../words";
import { ListCard, useListing } from "./listing";

interface CountryRow {
  country: string | null;
  connected: number;
  reachable: number;
  idle_up_bps: number;
  connections: number;
}

export interface Summary {
  devices: number;
  connected: number;
  reachable: number;
  idle_up_bps: number;
  connections: number;
  by_country: CountryRow[];
  by_state: Record<string, number>;
  by_reach: Record<string, number>;
  by_version: Record<string, number>;
}

export interface DeviceRow {
  device_id: string;
  owner: string | null;
  owner_name: string | null;
  model: string;
  version: string;
  state: string;
  connected: boolean;
  reach: string;
  country: string | null;
  asn: number | null;
  idle_up_bps: number;
  connections: number;
  objects: number;
  bound_at: number | null;
  last_seen: number | null;
}

const COUNTRIES_SHOWN = 12;
const FILTERS = ["state", "reach", "country", "version", "owner"] as const;

export function FleetPage(props: { route: Route }) {
  const live = useLive<Summary>("fleet/summary");
  return (
    <>
      <h1>{t("Fleet", "设备群")}</h1>
      <Loaded live={live}>
        {(summary) => (
          <>
            <FleetFigures of={summary} />
            <Countries of={summary.by_country} route={props.route} />
            <Devices summary={summary} route={props.route} />
          </>
        )}
      </Loaded>
    </>
  );
}

export function FleetFigures(props: { of: Summary }) {
  const { devices, connected, reachable, idle_up_bps, connections } = props.of;
  return (
    <Figures
      of={[
        [t("Devices", "设备"), count(devices)],
        [t("Connected", "已连接"), count(connected)],
        [t("Reachable", "外部可达"), count(reachable)],
        [t("Idle upload", "闲置上行"), rate(idle_up_bps)],
        [t("Served now", "正在服务的用户"), count(connections)],
      ]}
    />
  );
}

function Countries(props: { of: CountryRow[]; route: Route }) {
  const rows = props.of.slice(0, COUNTRIES_SHOWN);
  const most = Math.max(1, ...rows.map((row) => row.connected));
  const columns: Column<CountryRow>[] = [
    {
      title: t("Country", "国家/地区"),
      cell: (row) => (
        <button
          type="button"
          class="as-link"
          onClick={() => turn(props.route, { country: row.country ?? "-", page: 0 })}
        >
          {country(row.country)}
        </button>
      ),
    },
    {
      title: t("Connected", "已连接"),
      number: true,
      cell: (row) => (
        <span class="with-bar">
          <meter min={0} max={most} value={row.connected} aria-hidden="true" />
          {count(row.connected)}
        </span>
      ),
    },
    { title: t("Reachable", "可达"), number: true, cell: (row) => count(row.reachable) },
    { title: t("Idle upload", "闲置上行"), number: true, cell: (row) => rate(row.idle_up_bps) },
    { title: t("Served now", "正在服务"), number: true, cell: (row) => count(row.connections) },
  ];
  const left = props.of.length - rows.length;
  return (
    <Card title={t("Connected devices by country", "各地区已连接设备")}>
      <Table
        name={t("Connected devices by country", "各地区已连接设备")}
        columns={columns}
        rows={rows}
        keyOf={(row) => row.country ?? "-"}
        empty={t("No device is connected.", "没有已连接的设备。")}
      />
      {left > 0 && <p class="soft">{t("and {n} further countries", "另有 {n} 个国家/地区", { n: left })}</p>}
      {rows.length === 1 && rows[0]?.country === null && (
        <p class="soft">
          {t(
            "The server has no tables of addresses (delivery.address_tables), so countries are not known.",
            "服务器没有地址表（delivery.address_tables），因此无法得知所在地区。",
          )}
        </p>
      )}
    </Card>
  );
}

function counted(of: Record<string, number>, label: (value: string) => string): [string, string][] {
  return Object.entries(of).map(([value, number]) => [value, `${label(value)} (${count(number)})`]);
}

function Devices(props: { summary: Summary; route: Route }) {
  const { route, summary } = props;
  const listing = useListing<{ total: number; devices: DeviceRow[] }>("fleet", route, "-last_seen", FILTERS);
  const filter = (name: (typeof FILTERS)[number]) => ({
    value: route.query.get(name) ?? "",
    onChoose: (value: string) => turn(route, { [name]: value, page: 0 }),
  });
  const all = ["", t("all", "全部")] as [string, string];
  const places = summary.by_country.map((row): [string, string] => [
    row.country ?? "-",
    `${country(row.country)} (${count(row.connected)})`,
  ]);
  const owner = route.query.get("owner");
  return (
    <ListCard
      title={t("Devices", "设备")}
      of={listing}
      search={t("Search by id, owner or model", "按编号、主人或型号搜索")}
      filters={
        <>
          <Choice
            label={t("State", "状态")}
            {...filter("state")}
            options={[all, ...counted(summary.by_state, (state) => stateOf(state)[1])]}
          />
          <Choice
            label={t("Reachability", "可达性")}
            {...filter("reach")}
            options={[all, ...counted(summary.by_reach, (reach) => reachOf(reach)[1])]}
          />
          <Choice label={t("Country", "国家/地区")} {...filter("country")} options={[all, ...places]} />
          <Choice
            label={t("Version", "版本")}
            {...filter("version")}
            options={[all, ...counted(summary.by_version, (version) => version)]}
          />
          {owner && (
            <button type="button" onClick={() => turn(route, { owner: "", page: 0 })}>
              {t("Only of {owner} ✕", "仅限 {owner} ✕", { owner: short(owner) })}
            </button>
          )}
        </>
      }
      rowsOf={(told) => told.devices}
      columns={columns()}
      keyOf={(row) => row.device_id}
      empty={t("No device fits.", "没有符合条件的设备。")}
    />
  );
}

function columns(): Column<DeviceRow>[] {
  return [
    {
      title: t("Device", "设备"),
      sort: "device_id",
      cell: (row) => (
        <a href={link(["devices", row.device_id])} title={row.device_id}>
          <code>{short(row.device_id, 12)}</code>
        </a>
      ),
    },
    {
      title: t("State", "状态"),
      sort: "state",
      cell: (row) => {
        const [tone, label] = stateOf(row.state);
        return <Badge tone={tone}>{label}</Badge>;
      },
    },
    {
      title: t("Reachability", "可达性"),
      sort: "reach",
      cell: (row) =>
        row.connected ? <Badge tone={reachOf(row.reach)[0]}>{reachOf(row.reach)[1]}</Badge> : "–",
    },
    {
      title: t("Country", "国家/地区"),
      sort: "country",
      cell: (row) => (row.connected ? country(row.country) : "–"),
    },
    {
      title: t("Idle upload", "闲置上行"),
      sort: "idle_up_bps",
      number: true,
      cell: (row) => (row.connected ? rate(row.idle_up_bps) : "–"),
    },
    {
      title: t("Serves now", "正在服务"),
      sort: "connections",
      number: true,
      cell: (row) => count(row.connections),
    },
    { title: t("Files", "文件"), sort: "objects", number: true, cell: (row) => count(row.objects) },
    { title: t("Owner", "主人"), sort: "owner_name", cell: (row) => row.owner_name ?? "–" },
    {
      title: t("Model", "型号"),
      sort: "model",
      cell: (row) => (
        <>
          {row.model} <small class="soft">{row.version}</small>
        </>
      ),
    },
    { title: t("Last seen", "最近在线"), sort: "last_seen", cell: (row) => ago(row.last_seen) },
  ];
}
