// Which screen is shown: by the device's state, and by whether it knows this phone.
import { useCallback, useEffect, useReducer, useState } from "preact/hooks";
import type { Text } from "../../shared/language";
import {
  codeFromAddress,
  type Device,
  describe,
  forgetToken,
  type Problem,
  pair,
  phoneToken,
  Refused,
} from "./device";
import { Icon, type IconName, Scene } from "./icons";
import { useLive } from "./live";
import { Button, Heading, Notice } from "./parts";
import { explain } from "./problems";
import { Activate, CodeScreen, Progress } from "./screens/Activate";
import { DeviceScreen } from "./screens/Device";
import { Home } from "./screens/Home";
import { LimitsScreen } from "./screens/Limits";
import { PointsScreen } from "./screens/Points";
import { type Consent, Welcome } from "./screens/Welcome";
import { languageTag, onLanguage, speak, speaking, t } from "./words";

const TABS = ["home", "points", "limits", "device"] as const;
type Tab = (typeof TABS)[number];

const TAB_NAMES: Record<Tab, { text: Text; icon: IconName }> = {
  home: { text: ["Home", "首页"], icon: "home" },
  points: { text: ["Points", "积分"], icon: "points" },
  limits: { text: ["Limits", "限额"], icon: "limits" },
  device: { text: ["Device", "设备"], icon: "device" },
};

// A code that is scanned while the page is open here already changes only the end of its address.
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#code=")) location.reload();
});

/** The secret of a scanned QR code, until it has let this phone in. */
let scanned = codeFromAddress();

function tabOf(hash: string): Tab {
  const wanted = hash.replace(/^#/, "");
  return TABS.find((tab) => tab === wanted) ?? "home";
}

function useTab(): Tab {
  const [tab, setTab] = useState(() => tabOf(location.hash));
  useEffect(() => {
    const follow = () => setTab(tabOf(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useEffect(() => {
    scrollTo(0, 0);
    void tab;
  }, [tab]);
  return tab;
}

function Tabs({ tab }: { tab: Tab }) {
  return (
    <nav class="tabs" aria-label={t(["Sections", "栏目"])}>
      {TABS.map((one) => (
        <a key={one} href={`#${one}`} aria-current={one === tab ? "page" : undefined}>
          <Icon name={TAB_NAMES[one].icon} />
          {t(TAB_NAMES[one].text)}
        </a>
      ))}
    </nav>
  );
}

function LanguageSwitch() {
  const other = speaking() === "zh" ? "en" : "zh";
  return (
    <Button
      kind="quiet"
      class="language"
      lang={other === "zh" ? "zh-Hans" : "en"}
      onClick={() => speak(other)}
    >
      {other === "zh" ? "中文" : "English"}
    </Button>
  );
}

/** What belongs to a phone that the device knows. */
function Known({
  device,
  onForgotten,
  onChanged,
}: {
  device: Device;
  onForgotten: () => void;
  onChanged: () => void;
}) {
  const tab = useTab();
  const live = useLive();
  const state = live.status?.state;
  useEffect(() => {
    if (live.forgotten) onForgotten();
  }, [live.forgotten, onForgotten]);
  useEffect(() => {
    if (state === "dormant") onChanged();
  }, [state, onChanged]);
  return (
    <>
      {tab === "home" && <Home live={live} deviceName={device.name} />}
      {tab === "points" && <PointsScreen />}
      {tab === "limits" && <LimitsScreen status={live.status} />}
      {tab === "device" && <DeviceScreen device={device} status={live.status} />}
      <Tabs tab={tab} />
    </>
  );
}

function Body() {
  const [device, setDevice] = useState<Device | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [known, setKnown] = useState(phoneToken() !== null);
  const [consent, setConsent] = useState<Consent | null>(null);

  const look = useCallback(() => {
    describe()
      .then((found) => {
        setDevice(found);
        setProblem(null);
      })
      .catch((error) => setProblem(error instanceof Refused ? error.problem : { type: "device-away" }));
  }, []);
  useEffect(look, [look]);
  const forgotten = useCallback(() => {
    forgetToken();
    setKnown(false);
    look();
  }, [look]);
  const joined = useCallback(() => {
    scanned = null;
    setConsent(null);
    setKnown(true);
    location.hash = "";
    look();
  }, [look]);

  useEffect(() => {
    // A QR code that is scanned at a device in use lets this phone in at once.
    if (!device || known || !scanned || device.state === "dormant" || device.state === "activating") return;
    pair(scanned)
      .then(joined)
      .catch(() => {});
  }, [device, known, joined]);

  if (!device)
    return (
      <main class="flow">
        <div class="hero">
          <Scene mood="night" />
          <div class="hero-text">
            <Heading>Fallow</Heading>
            <p>{problem ? "" : t(["Looking…", "正在查看…"])}</p>
          </div>
        </div>
        {problem && (
          <>
            <Notice kind="error">{t(explain(problem))}</Notice>
            <Button class="wide" onClick={look}>
              {t(["Try again", "再试一次"])}
            </Button>
          </>
        )}
      </main>
    );
  if (device.state === "dormant")
    return consent ? (
      <Activate
        device={device}
        consent={consent}
        code={scanned}
        onBack={() => setConsent(null)}
        onDone={joined}
      />
    ) : (
      <Welcome deviceName={device.name} onAgree={setConsent} />
    );
  if (device.state === "activating") return <Progress onDone={joined} onAgain={look} />;
  if (!known)
    return (
      <CodeScreen
        title={t(["Add this phone", "添加这部手机"])}
        text={t(
          [
            "{name} is already in use. The setup code lets this phone in.",
            "{name} 已在使用中。输入设置码即可添加这部手机。",
          ],
          {
            name: device.name,
          },
        )}
        action={t(["Add this phone", "添加这部手机"])}
        onCode={async (code) => {
          await pair(code);
          joined();
        }}
      />
    );
  return <Known device={device} onForgotten={forgotten} onChanged={look} />;
}

export function App() {
  const [, again] = useReducer((count: number) => count + 1, 0);
  useEffect(() => onLanguage(() => again(undefined)), []);
  useEffect(() => {
    document.documentElement.lang = languageTag();
  });
  return (
    <>
      <header class="top">
        <a class="brand" href="#home">
          <Icon name="leaf" />
          Fallow
        </a>
        <LanguageSwitch />
      </header>
      <Body />
    </>
  );
}
