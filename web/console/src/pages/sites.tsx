// Mirrored sites: origins from which files are pulled when they are asked for.
import { useState } from "preact/hooks";
import { call } from "../api";
import { count, short, time } from "../format";
import { Card, type Column, Dialog, Field, Form } from "../parts";
import type { Route } from "../route";
import { t } from "../words";
import { ListCard, useListing } from "./listing";

interface SiteRow {
  name: string;
  origin: string;
  created_at: number;
  paths: number;
  publisher: string;
  publisher_name: string | null;
  url: string;
}

export function Sites(props: { route: Route; publishes: boolean }) {
  const { route, publishes } = props;
  const listing = useListing<{ total: number; sites: SiteRow[] }>("sites", route, "name");
  const { live } = listing;
  const [leaving, setLeaving] = useState<SiteRow>();
  return (
    <>
      <h1>{t("Mirrored sites", "镜像站点")}</h1>
      {publishes && <Add onAdded={live.reload} />}
      <ListCard
        title={t("Registered origins", "已登记的源站")}
        of={listing}
        search={t("Search by name or origin", "按名称或源站搜索")}
        rowsOf={(told) => told.sites}
        columns={columns(publishes, setLeaving)}
        keyOf={(row) => row.name}
        empty={
          route.query.get("q")
            ? t("No site fits.", "没有符合条件的站点。")
            : t("No site yet.", "还没有站点。")
        }
      />
      <Dialog
        title={t("Remove the site {name}?", "移除站点 {name}？", { name: leaving?.name ?? "" })}
        open={leaving !== undefined}
        onClose={() => setLeaving(undefined)}
      >
        <p>{t("What was pulled through it alone is dropped.", "仅经由它拉取的内容将被移除。")}</p>
        <Form
          danger
          action={t("Remove", "移除")}
          onSend={async () => {
            await call("DELETE", `/v1/sites/${encodeURIComponent(leaving?.name ?? "")}`);
            setLeaving(undefined);
            live.reload();
          }}
        />
      </Dialog>
    </>
  );
}

function Add(props: { onAdded: () => void }) {
  const [name, setName] = useState("");
  const [origin, setOrigin] = useState("");
  return (
    <Card title={t("Add a site", "添加站点")}>
      <Form
        action={t("Add", "添加")}
        onSend={async () => {
          await call("POST", "/v1/sites", { body: { name: name.trim(), origin: origin.trim() } });
          setName("");
          setOrigin("");
          props.onAdded();
        }}
      >
        <div class="filters">
          <Field
            label={t("Name in addresses", "地址中的名称")}
            hint={t("a-z, 0-9, dots and hyphens", "小写字母、数字、点和连字符")}
            value={name}
            onInput={setName}
            required
            maxLength={64}
          />
          <Field
            label={t("Origin", "源站地址")}
            hint={t("such as https://downloads.example.org/pub/", "例如 https://downloads.example.org/pub/")}
            kind="url"
            value={origin}
            onInput={setOrigin}
            required
            maxLength={512}
          />
        </div>
      </Form>
    </Card>
  );
}

function columns(publishes: boolean, onDelete: (row: SiteRow) => void): Column<SiteRow>[] {
  return [
    { title: t("Name", "名称"), sort: "name", cell: (row) => row.name },
    { title: t("Address", "地址"), cell: (row) => <code>{row.url}</code> },
    { title: t("Origin", "源站"), sort: "origin", cell: (row) => <code>{row.origin}</code> },
    { title: t("Files held", "已持有文件"), sort: "paths", number: true, cell: (row) => count(row.paths) },
    { title: t("Since", "登记时间"), sort: "created_at", cell: (row) => time(row.created_at) },
    publishes
      ? {
          title: t("Remove", "移除"),
          cell: (row) => (
            <button
              type="button"
              class="as-link"
              aria-label={t("Remove {name}", "移除 {name}", { name: row.name })}
              onClick={() => onDelete(row)}
            >
              {t("Remove", "移除")}
            </button>
          ),
        }
      : {
          title: t("Publisher", "发布者"),
          sort: "publisher_name",
          cell: (row) => row.publisher_name ?? short(row.publisher),
        },
  ];
}
