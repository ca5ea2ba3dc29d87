// The device itself: what it is, and leaving.
import { useState } from "preact/hooks";
import { call, type Device, type Status } from "../device";
import { Button, Card, Check, Dialog, Fault, Heading, useAction } from "../parts";
import { span, t } from "../words";

export function DeviceScreen({ device, status }: { device: Device; status: Status | null }) {
  return (
    <main>
      <Card>
        <Heading>{device.name}</Heading>
        <dl class="rows">
          <div>
            <dt>{t(["Model", "型号"])}</dt>
            <dd>{device.model}</dd>
          </div>
          <div>
            <dt>{t(["Version", "版本"])}</dt>
            <dd>{device.version}</dd>
          </div>
          <div>
            <dt>{t(["Number", "编号"])}</dt>
            <dd class="mono">{device.device_id}</dd>
          </div>
          {status && (
            <div>
              <dt>{t(["Server", "服务器"])}</dt>
              <dd>{status.uplink.connected ? t(["connected", "已连接"]) : t(["not connected", "未连接"])}</dd>
            </div>
          )}
        </dl>
      </Card>
      <Leave status={status} />
    </main>
  );
}

function Leave({ status }: { status: Status | null }) {
  const [asking, setAsking] = useState(false);
  const [sure, setSure] = useState(false);
  const { busy, fault, run } = useAction();
  if (status?.state === "leaving") {
    const waiting = status.proofs?.waiting ?? 0;
    return (
      <Card title={t(["Leaving", "退出"])}>
        <p>
          {waiting > 0
            ? t(["{n} receipts still wait to be handed over.", "还有 {n} 份凭据等待交出。"], { n: waiting })
            : t(["The last receipts are being handed over.", "正在交出最后的凭据。"])}
        </p>
      </Card>
    );
  }
  return (
    <Card title={t(["Leave Fallow", "退出 Fallow"])}>
      <p>
        {t([
          "The device stops sharing at once, hands over its last receipts, and forgets you and every file that it kept for others. Your points stay yours.",
          "设备会立即停止共享，交出最后的凭据，并忘记您的信息和为他人保存的所有文件。积分仍归您所有。",
        ])}
      </p>
      <Button kind="danger" class="wide" onClick={() => setAsking(true)}>
        {t(["Leave…", "退出…"])}
      </Button>
      {asking && (
        <Dialog title={t(["Leave Fallow?", "要退出 Fallow 吗？"])} onClose={() => setAsking(false)}>
          <ul class="points plain">
            <li>{t(["Sharing stops now.", "立即停止共享。"])}</li>
            <li>
              {t(
                [
                  "Receipts not yet handed over are handed over; if the server is away, for up to {span}.",
                  "尚未交出的凭据会继续交出；服务器不在线时最多等待 {span}。",
                ],
                {
                  span: span(48 * 3600),
                },
              )}
            </li>
            <li>
              {t([
                "Every file and every setting of yours is erased here.",
                "您的所有设置和保存的文件将从设备上清除。",
              ])}
            </li>
            <li>{t(["Points that you earned stay in your account.", "已获得的积分保留在您的账户中。"])}</li>
          </ul>
          <Check checked={sure} onChange={setSure}>
            {t(["Yes, leave and erase.", "是的，退出并清除。"])}
          </Check>
          <Fault text={fault} />
          <div class="pair">
            <Button kind="plain" onClick={() => setAsking(false)}>
              {t(["Stay", "留下"])}
            </Button>
            <Button
              kind="danger"
              busy={busy}
              disabled={!sure}
              onClick={() =>
                run(async () => {
                  await call("DELETE", "v1/activation");
                  setAsking(false);
                })
              }
            >
              {t(["Leave", "退出"])}
            </Button>
          </div>
        </Dialog>
      )}
    </Card>
  );
}
