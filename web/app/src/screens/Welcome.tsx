// What Fallow does and never does, which limits hold, and the owner's consent. Nothing is chosen beforehand.
import { useRef, useState } from "preact/hooks";
import type { Text } from "../../../shared/language";
import { Icon, type IconName, Scene } from "../icons";
import { Button, Card, Check, Choice, Heading, Notice } from "../parts";
import { t } from "../words";

export interface Consent {
  upload_percent_max: number;
}

const DOES: readonly Text[] = [
  [
    "It sends public files – programs, videos, updates – to people nearby, over the part of your upload that your home is not using.",
    "用您家没在用的上行带宽，把公开的文件（软件、视频、更新）发送给附近的人。",
  ],
  [
    "Your home comes first. As soon as somebody at home needs the line, it steps back.",
    "家人永远优先：家里一用网，它就立即让开。",
  ],
  [
    "You earn points by a public formula. What you earned stays yours.",
    "您按公开的公式获得积分，已获得的积分始终归您。",
  ],
];

const NEVER: readonly Text[] = [
  ["It never looks at what you do on the internet.", "绝不查看您的上网内容。"],
  ["It never opens your home network to anybody.", "绝不向任何人开放您的家庭网络。"],
  ["It never runs other people's programs.", "绝不运行他人的程序。"],
  ["It talks to nobody outside of your home before you agree.", "在您同意之前，绝不与家庭网络之外通信。"],
];

const LEARNS: readonly Text[] = [
  [
    "The server learns your home's public address, how much of the line is idle, and how much was served. Files are sent from that address.",
    "服务器会知道您家的公网地址、线路的空闲程度和发送的数据量；文件从该地址发出。",
  ],
  [
    "Seldom and briefly it measures how public addresses are reached from your line. You can switch that off.",
    "偶尔会短暂测量从您的线路访问公网地址的情况，您可以关闭此项。",
  ],
];

function Points({ icon, texts, tone }: { icon: IconName; texts: readonly Text[]; tone: string }) {
  return (
    <ul class={`points ${tone}`}>
      {texts.map((text) => (
        <li key={text[0]}>
          <Icon name={icon} />
          <span>{t(text)}</span>
        </li>
      ))}
    </ul>
  );
}

export function Welcome({
  deviceName,
  onAgree,
}: {
  deviceName: string;
  onAgree: (consent: Consent) => void;
}) {
  const [percent, setPercent] = useState<number | null>(null);
  const [agreed, setAgreed] = useState(false);
  const [contract, setContract] = useState(false);
  const [asked, setAsked] = useState(false);
  const missing = useRef<HTMLDivElement>(null);
  const complete = percent !== null && agreed && contract;

  const go = () => {
    if (complete) {
      onAgree({ upload_percent_max: percent });
      return;
    }
    setAsked(true);
    missing.current?.scrollIntoView({ block: "center" });
  };

  return (
    <main class="flow">
      <div class="hero">
        <Scene mood="dawn" />
        <div class="hero-text">
          <Heading>{t(["Let your idle line bear fruit", "让闲置的带宽有所收获"])}</Heading>
          <p>
            {t(
              [
                "{name} is ready. It does nothing until you agree.",
                "{name} 已就绪。在您同意之前，它什么也不做。",
              ],
              { name: deviceName },
            )}
          </p>
        </div>
      </div>
      <Card title={t(["What it does", "它做什么"])}>
        <Points icon="leaf" texts={DOES} tone="good" />
      </Card>
      <Card title={t(["What it never does", "它绝不做什么"])}>
        <Points icon="never" texts={NEVER} tone="never" />
      </Card>
      <Card title={t(["What the server learns", "服务器会知道什么"])}>
        <Points icon="next" texts={LEARNS} tone="plain" />
      </Card>
      <Card title={t(["How much may it use?", "最多可以用多少？"])}>
        <p class="soft">
          {t([
            "Only ever of what your home leaves unused, at any hour, without a monthly cap, and with the disk that the device has set aside. You can change all of that later.",
            "只使用您家闲置的部分：全天可用，不设每月上限，磁盘用设备预留的空间。以后都可以修改。",
          ])}
        </p>
        <Choice
          legend={t(["Upload it may use at most", "最多使用的上行带宽"])}
          hideLegend
          value={percent}
          onChoose={setPercent}
          options={[
            {
              value: 25,
              title: t(["A little – a quarter", "少量：四分之一"]),
              text: t(["fewer points", "积分较少"]),
            },
            { value: 50, title: t(["Half", "一半"]), text: t(["a good start", "适合先试试"]) },
            {
              value: 80,
              title: t(["Most of it – 80 %", "大部分：80%"]),
              text: t(["most points", "积分最多"]),
            },
          ]}
        />
      </Card>
      <div ref={missing}>
        <Card title={t(["Your consent", "您的同意"])}>
          <Notice kind="warning">
            {t([
              "Upload may count against the data allowance of your internet contract, and some contracts forbid such use.",
              "上行流量可能计入您的宽带套餐用量，有些合同禁止此类用途。",
            ])}
          </Notice>
          <Check checked={contract} onChange={setContract}>
            {t(["I have checked that my contract allows this.", "我已确认我的宽带合同允许这样做。"])}
          </Check>
          <Check checked={agreed} onChange={setAgreed}>
            {t(["I agree. I can pause or leave at any time.", "我同意。我可以随时暂停或退出。"])}
          </Check>
          {asked && !complete && (
            <Notice kind="error">
              {percent === null
                ? t(["Please choose above how much it may use.", "请先在上面选择最多可以用多少。"])
                : t(["Please tick both boxes, if you agree.", "如果同意，请勾选两项。"])}
            </Notice>
          )}
          <Button onClick={go} class="wide">
            {t(["Agree and go on", "同意并继续"])}
          </Button>
        </Card>
      </div>
    </main>
  );
}
