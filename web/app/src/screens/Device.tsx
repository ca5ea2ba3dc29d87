// The device itself: what it is, and leaving.
import { useEffect, useState } from "preact/hooks";
import type { Text } from "../../../shared/language";
import { call, type Device, type State, type Status } from "../device";
import { Icon } from "../icons";
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
      <Neighbours />
      <SecondPhone />
      <Leave status={status} />
    </main>
  );
}

interface Neighbour {
  device_id: string;
  name: string;
  url: string;
  state: State;
}

const STATES: Record<State, Text> = {
  dormant: ["not in use yet", "尚未启用"],
  activating: ["being activated", "正在激活"],
  active: ["sharing", "共享中"],
  paused: ["paused", "已暂停"],
  leaving: ["leaving", "正在退出"],
};

function Neighbours() {
  const [found, setFound] = useState<Neighbour[] | null>(null);
  const { busy, fault, run } = useAction();
  useEffect(() => {
    void run(async () => setFound(await call<Neighbour[]>("GET", "v1/neighbours")));
  }, []);
  return (
    <Card title={t(["Other devices at home", "家中的其他设备"])}>
      <Fault text={fault} />
      {busy && <p class="soft">{t(["Looking around…", "正在查找…"])}</p>}
      {found?.length === 0 && <p class="soft">{t(["None was found.", "没有找到。"])}</p>}
      <ul class="list">
        {found?.map((one) => (
          <li key={one.device_id}>
            <a href={one.url}>
              <span>
                {one.name.replace(/\.local$/, "")}
                <small>{t(STATES[one.state])}</small>
              </span>
              <Icon name="next" />
            </a>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function SecondPhone() {
  return (
    <Card title={t(["Another phone", "另一部手机"])}>
      <p>
        {t([
          "Scan the QR code on the device's label with it, or open this address in its browser and type the setup code:",
          "用那部手机扫描设备标签上的二维码，或在浏览器中打开此地址并输入设置码：",
        ])}
      </p>
      <p class="mono">{location.origin}</p>
      <p class="soft">
        {t([
          "To keep Fallow at hand, choose “Add to home screen” in the browser's menu.",
          "想随时打开 Fallow，请在浏览器菜单中选择“添加到主屏幕”。",
        ])}
      </p>
    </Card>
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
