// Files: what there is, and for publishers uploading by drag and drop.
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api";
import { bytes, count, short, time } from "../format";
import { Badge, Card, type Column, Dialog, Form, Notice } from "../parts";
import type { Route } from "../route";
import { troubleOf } from "../troubles";
import { type Upload, Uploads, WAITING_MAX } from "../upload";
import { t } from "../words";
import { ListCard, useListing } from "./listing";

interface ObjectRow {
  id: string;
  name: string;
  size: number;
  type: string;
  replicas_wanted: number;
  replicas: number;
  created_at: number;
  publisher: string;
  publisher_name: string | null;
  mirrored: boolean;
  url: string;
}

export function Objects(props: { route: Route; publishes: boolean }) {
  const { route, publishes } = props;
  const listing = useListing<{ total: number; objects: ObjectRow[] }>("objects", route, "-created_at");
  const { live } = listing;
  const [leaving, setLeaving] = useState<ObjectRow>();
  return (
    <>
      <h1>{t("Files", "文件")}</h1>
      {publishes && <Drop onPublished={live.reload} />}
      <ListCard
        title={t("Published files", "已发布的文件")}
        of={listing}
        search={t("Search by name or id", "按名称或编号搜索")}
        rowsOf={(told) => told.objects}
        columns={columns(publishes, setLeaving)}
        keyOf={(row) => `${row.id} ${row.publisher}`}
        empty={
          route.query.get("q")
            ? t("No file fits.", "没有符合条件的文件。")
            : t("No file yet.", "还没有文件。")
        }
      />
      <Dialog
        title={t("Delete {name}?", "删除 {name}？", { name: leaving?.name ?? "" })}
        open={leaving !== undefined}
        onClose={() => setLeaving(undefined)}
      >
        <p>
          {t(
            "Its address stops working, and devices drop their copies.",
            "它的地址将失效，设备会移除各自的副本。",
          )}
        </p>
        <Form
          danger
          action={t("Delete", "删除")}
          onSend={async () => {
            await call("DELETE", `/v1/objects/${leaving?.id}`);
            setLeaving(undefined);
            live.reload();
          }}
        />
      </Dialog>
    </>
  );
}

function columns(publishes: boolean, onDelete: (row: ObjectRow) => void): Column<ObjectRow>[] {
  return [
    {
      title: t("Name", "名称"),
      sort: "name",
      cell: (row) => (
        <>
          <a href={row.url}>{row.name}</a>{" "}
          {row.mirrored && <Badge tone="plain">{t("mirrored", "镜像")}</Badge>}
        </>
      ),
    },
    { title: t("Size", "大小"), sort: "size", number: true, cell: (row) => bytes(row.size) },
    { title: t("Type", "类型"), sort: "type", cell: (row) => row.type },
    {
      title: t("Copies / wanted", "副本/期望"),
      sort: "replicas_wanted",
      number: true,
      cell: (row) => `${count(row.replicas)} / ${count(row.replicas_wanted)}`,
    },
    ...(publishes
      ? []
      : [
          {
            title: t("Publisher", "发布者"),
            sort: "publisher_name",
            cell: (row: ObjectRow) => row.publisher_name ?? short(row.publisher),
          },
        ]),
    { title: t("Published", "发布时间"), sort: "created_at", cell: (row) => time(row.created_at) },
    ...(publishes
      ? [
          {
            title: t("Delete", "删除"),
            cell: (row: ObjectRow) => (
              <button
                type="button"
                class="as-link"
                aria-label={t("Delete {name}", "删除 {name}", { name: row.name })}
                onClick={() => onDelete(row)}
              >
                {t("Delete", "删除")}
              </button>
            ),
          },
        ]
      : []),
  ];
}

function Drop(props: { onPublished: () => void }) {
  const [list, setList] = useState<readonly Upload[]>([]);
  const [over, setOver] = useState(false);
  const [refused, setRefused] = useState(0);
  const published = useRef(props.onPublished);
  published.current = props.onPublished;
  const [uploads] = useState(() => new Uploads(setList, () => published.current()));
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => () => uploads.close(), [uploads]);
  const open = list.some((one) => one.state === "waiting" || one.state === "sending");
  useEffect(() => {
    if (!open) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [open]);
  return (
    <Card title={t("Upload", "上传")}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the button in it does the same by keys */}
      <div
        class={over ? "drop over" : "drop"}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          setRefused(uploads.add([...(event.dataTransfer?.files ?? [])]));
        }}
      >
        <p>{t("Drop files here, or", "将文件拖放到此处，或")}</p>
        <input
          ref={input}
          type="file"
          multiple
          hidden
          onChange={(event) => {
            setRefused(uploads.add([...(event.currentTarget.files ?? [])]));
            event.currentTarget.value = "";
          }}
        />
        <button type="button" class="main" onClick={() => input.current?.click()}>
          {t("Choose files", "选择文件")}
        </button>
      </div>
      {refused > 0 && (
        <Notice tone="warn">
          {t(
            "{n} files were left out: at most {max} wait at a time.",
            "有 {n} 个文件未加入：一次最多排队 {max} 个。",
            {
              n: refused,
              max: WAITING_MAX,
            },
          )}
        </Notice>
      )}
      {list.length > 0 && (
        <ul class="uploads" aria-label={t("Uploads", "上传列表")}>
          {list.map((one) => (
            <UploadRow key={one.id} of={one} uploads={uploads} />
          ))}
        </ul>
      )}
      {list.some((one) => one.state !== "waiting" && one.state !== "sending") && (
        <button type="button" onClick={() => uploads.clear()}>
          {t("Clear the list", "清空列表")}
        </button>
      )}
    </Card>
  );
}

function UploadRow(props: { of: Upload; uploads: Uploads }) {
  const { of, uploads } = props;
  const { name, size } = of.file;
  const trouble = of.problem && troubleOf(of.problem);
  return (
    <li>
      <span class="name">{of.url ? <a href={of.url}>{name}</a> : name}</span>
      <progress
        max={Math.max(1, size)}
        value={of.state === "done" ? Math.max(1, size) : of.sent}
        aria-label={t("Progress of {name}", "{name} 的进度", { name })}
      />
      <span class="soft">
        {of.state === "done" && t("published, {size}", "已发布，{size}", { size: bytes(size) })}
        {of.state === "waiting" && t("waits", "等待中")}
        {of.state === "cancelled" && t("cancelled", "已取消")}
        {of.state === "sending" &&
          (of.sent < size
            ? t("{sent} of {size}", "{sent} / {size}", { sent: bytes(of.sent), size: bytes(size) })
            : t("is being checked", "正在校验"))}
        {trouble && `${trouble.title} ${of.problem?.detail ?? ""} ${trouble.remedy}`}
      </span>
      {(of.state === "waiting" || of.state === "sending") && (
        <button type="button" onClick={() => uploads.cancel(of.id)}>
          {t("Cancel", "取消")}
        </button>
      )}
      {(of.state === "failed" || of.state === "cancelled") && (
        <button type="button" onClick={() => uploads.retry(of.id)}>
          {t("Again", "重试")}
        </button>
      )}
    </li>
  );
}
