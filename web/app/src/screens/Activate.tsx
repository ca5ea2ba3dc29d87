// From consent to a device that serves: the setup code, the owner's account at the server, and enrolment.
import { useEffect, useState } from "preact/hooks";
import type { Text } from "../../../shared/language";
import { activate, activation, call, type Device, type Problem, Refused } from "../device";
import { Icon } from "../icons";
import { Button, Card, Choice, Fault, Field, Heading, Notice, problemText, useAction } from "../parts";
import { explain } from "../problems";
import {
  addressOf,
  type Claim,
  claimByKey,
  type Registration,
  register,
  registration,
  signIn,
} from "../server";
import { t } from "../words";
import type { Consent } from "./Welcome";

/** A claim lives ten minutes; one that is older than this is asked for anew. */
const CLAIM_SPARE_S = 60;
const LOOK_MS = 1000;
/** A code is eight characters, in two groups of four. */
const CODE_CHARS = 8;

export function codeChars(typed: string): string {
  return typed.toUpperCase().replace(/[^0-9A-Z]/g, "");
}

export function CodeScreen(props: {
  title: string;
  text: string;
  action: string;
  onCode: (code: string) => Promise<void>;
  onBack?: (() => void) | undefined;
  fault?: Text | null;
}) {
  const [code, setCode] = useState("");
  const [short, setShort] = useState(false);
  const { busy, fault, run } = useAction();
  const go = (event: Event) => {
    event.preventDefault();
    setShort(codeChars(code).length !== CODE_CHARS);
    if (codeChars(code).length === CODE_CHARS) void run(() => props.onCode(codeChars(code)));
  };
  return (
    <main class="flow">
      {props.onBack && <Back onBack={props.onBack} />}
      <Card>
        <Heading>{props.title}</Heading>
        <p>{props.text}</p>
        <form onSubmit={go} noValidate>
          <Field
            label={t(["Setup code", "设置码"])}
            hint={t([
              "Eight letters and digits on the device's label. Or scan the label's QR code with the camera.",
              "设备标签上的八位字母和数字。也可以用相机扫描标签上的二维码。",
            ])}
            fault={short ? t(["It has eight letters and digits.", "应为八位字母和数字。"]) : undefined}
            class="code"
            value={code}
            onInput={(event) => setCode(event.currentTarget.value)}
            placeholder="ABCD-1234"
            autocomplete="off"
            autocapitalize="characters"
            spellcheck={false}
            maxLength={16}
          />
          <Fault text={fault ?? props.fault ?? null} />
          <Button type="submit" busy={busy} class="wide">
            {props.action}
          </Button>
        </form>
      </Card>
    </main>
  );
}

export function Back({ onBack }: { onBack: () => void }) {
  return (
    <Button kind="quiet" icon="back" onClick={onBack} class="back">
      {t(["Back", "返回"])}
    </Button>
  );
}

type Way = "in" | "new" | "key";

function ServerForm(props: {
  value: string;
  onServer: (server: string, registration: Registration) => void;
}) {
  const [typed, setTyped] = useState(props.value);
  const { busy, fault, run } = useAction();
  const go = (event: Event) => {
    event.preventDefault();
    const server = addressOf(typed);
    if (typed.trim()) void run(async () => props.onServer(server, await registration(server)));
  };
  return (
    <form onSubmit={go} noValidate>
      <Field
        label={t(["Server address", "服务器地址"])}
        hint={t([
          "Your operator tells you, for example fallow.example.org",
          "由运营者告知，例如 fallow.example.org",
        ])}
        type="url"
        inputMode="url"
        value={typed}
        onInput={(event) => setTyped(event.currentTarget.value)}
        autocomplete="off"
        autocapitalize="none"
        spellcheck={false}
        maxLength={256}
      />
      <Fault text={fault} />
      <Button type="submit" busy={busy} class="wide">
        {t(["Go on", "继续"])}
      </Button>
    </form>
  );
}

function AccountForm(props: {
  server: string;
  registration: Registration;
  onClaim: (claim: Claim) => Promise<void>;
}) {
  const [way, setWay] = useState<Way>("in");
  const [login, setLogin] = useState("");
  const [password, setPassword] = useState("");
  const [key, setKey] = useState("");
  const [short, setShort] = useState(false);
  const { busy, fault, run, clear } = useAction();
  const least = props.registration.password_chars_min;
  const ways = [
    { value: "in" as Way, title: t(["I have an account", "我有账户"]) },
    ...(props.registration.open
      ? [{ value: "new" as Way, title: t(["Create an account", "创建账户"]) }]
      : []),
    { value: "key" as Way, title: t(["I have a key from the operator", "我有运营者给的密钥"]) },
  ];
  const go = (event: Event) => {
    event.preventDefault();
    const tooShort = way === "new" && password.length < least;
    setShort(tooShort);
    if (tooShort || (way === "key" ? !key.trim() : !login.trim() || !password)) return;
    void run(async () => {
      const claim =
        way === "key"
          ? await claimByKey(props.server, key)
          : await (way === "new" ? register : signIn)(props.server, login, password);
      await props.onClaim(claim);
    });
  };
  return (
    <form onSubmit={go} noValidate>
      <Choice
        legend={t(["How do you sign in?", "如何登录？"])}
        hideLegend
        options={ways}
        value={way}
        onChoose={(chosen) => {
          setWay(chosen);
          clear();
        }}
      />
      {way === "key" ? (
        <Field
          label={t(["Key", "密钥"])}
          type="password"
          value={key}
          onInput={(event) => setKey(event.currentTarget.value)}
          autocomplete="off"
          maxLength={128}
        />
      ) : (
        <>
          <Field
            label={t(["Name", "用户名"])}
            value={login}
            onInput={(event) => setLogin(event.currentTarget.value)}
            autocomplete="username"
            autocapitalize="none"
            spellcheck={false}
            maxLength={64}
          />
          <Field
            label={t(["Password", "密码"])}
            hint={way === "new" ? t(["At least {n} characters", "至少 {n} 个字符"], { n: least }) : ""}
            fault={short ? t(["This one is too short.", "密码太短。"]) : undefined}
            type="password"
            value={password}
            onInput={(event) => setPassword(event.currentTarget.value)}
            autocomplete={way === "new" ? "new-password" : "current-password"}
            maxLength={128}
          />
        </>
      )}
      {props.server.startsWith("http:") && (
        <p class="soft">
          {t([
            "This server is reached without encryption. Use a password that you use nowhere else.",
            "与此服务器的连接未加密。请使用未在别处用过的密码。",
          ])}
        </p>
      )}
      <Fault text={fault} />
      <Button type="submit" busy={busy} class="wide">
        {way === "new" ? t(["Create account", "创建账户"]) : t(["Sign in", "登录"])}
      </Button>
    </form>
  );
}

export function Activate(props: {
  device: Device;
  consent: Consent;
  code: string | null;
  onBack: () => void;
  onDone: () => void;
}) {
  const [code, setCode] = useState(props.code);
  const [codeFault, setCodeFault] = useState<Text | null>(null);
  const [server, setServer] = useState<string | null>(null);
  const [open, setOpen] = useState<Registration | null>(null);
  const [claim, setClaim] = useState<Claim | null>(null);
  const [under, setUnder] = useState(false);
  const preset = props.device.scheduler;

  useEffect(() => {
    // The proposed server is asked at once; where it does not answer, the owner sees its address and can change it.
    if (!preset) return;
    registration(preset)
      .then((found) => {
        setServer(preset);
        setOpen(found);
      })
      .catch(() => {});
  }, [preset]);

  const start = async (setupCode: string, good: Claim) => {
    if (!server) return;
    try {
      await activate({
        scheduler: server,
        claim_token: good.claim_token,
        setup_code: setupCode,
        consent: { terms_version: props.device.terms_version, accepted: true },
        limits: { upload_percent_max: props.consent.upload_percent_max },
      });
      setUnder(true);
    } catch (error) {
      // A wrong code costs no new sign-in: the claim is still good.
      const wrong = error instanceof Refused && error.problem.type.includes("setup-code");
      if (!wrong) throw error;
      setCodeFault(problemText(error));
      setCode(null);
    }
  };

  if (under) return <Progress onDone={props.onDone} onAgain={() => setUnder(false)} />;
  if (code === null)
    return (
      <CodeScreen
        title={t(["Show that you are at home", "确认您就在设备旁"])}
        text={t([
          "The setup code proves that you stand beside the device. It never leaves your home.",
          "设置码证明您就在设备旁边，它不会离开您的家。",
        ])}
        action={t(["Go on", "继续"])}
        fault={codeFault}
        onBack={props.onBack}
        onCode={async (typed) => {
          setCodeFault(null);
          setCode(typed);
          if (claim && claim.expires_at - CLAIM_SPARE_S > Date.now() / 1000) await start(typed, claim);
        }}
      />
    );
  return (
    <main class="flow">
      <Back onBack={() => (open ? setOpen(null) : setCode(null))} />
      <Card>
        <Heading>{t(["Your account", "您的账户"])}</Heading>
        <p>{t(["Your points are kept for you at a server.", "您的积分由服务器为您保管。"])}</p>
        {open && server ? (
          <>
            <div class="chosen-server">
              <span>{server.replace(/^https?:\/\//, "")}</span>
              <Button kind="quiet" onClick={() => setOpen(null)}>
                {t(["Change", "更改"])}
              </Button>
            </div>
            <AccountForm
              server={server}
              registration={open}
              onClaim={async (made) => {
                setClaim(made);
                await start(code, made);
              }}
            />
          </>
        ) : (
          <ServerForm
            value={server ?? preset ?? ""}
            onServer={(found, registered) => {
              setServer(found);
              setOpen(registered);
            }}
          />
        )}
      </Card>
    </main>
  );
}

/** Enrolment, as the device goes through it. */
export function Progress({ onDone, onAgain }: { onDone: () => void; onAgain: () => void }) {
  const [state, setState] = useState("activating");
  const [problem, setProblem] = useState<Problem | null>(null);
  const { busy, fault, run } = useAction();

  useEffect(() => {
    let going = true;
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      try {
        const found = await activation();
        if (!going) return;
        setState(found.state);
        setProblem(found.error ?? null);
        if (found.state === "active" || found.state === "paused") {
          onDone();
          return;
        }
        if (found.state === "dormant") return;
      } catch (error) {
        if (going) setProblem(error instanceof Refused ? error.problem : null);
      }
      if (going) timer = setTimeout(look, LOOK_MS);
    };
    void look();
    return () => {
      going = false;
      clearTimeout(timer);
    };
  }, [onDone]);

  const failed = state === "dormant";
  return (
    <main class="flow">
      <Card>
        <Heading>{failed ? t(["That did not work", "没有成功"]) : t(["One moment…", "请稍候…"])}</Heading>
        <ol class="steps">
          <li class="done">
            <Icon name="check" />
            {t(["The device knows you", "设备已认识您"])}
          </li>
          <li class={failed ? "failed" : "going"} aria-current={failed ? undefined : "step"}>
            <Icon name={failed ? "warning" : "leaf"} />
            {t(["It introduces itself to the server", "正在向服务器登记"])}
          </li>
          <li>
            <Icon name="home" />
            {t(["It begins to share", "开始共享"])}
          </li>
        </ol>
        {problem && <Notice kind={failed ? "error" : "warning"}>{t(explain(problem))}</Notice>}
        <Fault text={fault} />
        {failed ? (
          <Button class="wide" onClick={onAgain}>
            {t(["Try again", "再试一次"])}
          </Button>
        ) : (
          problem && (
            <Button
              kind="plain"
              class="wide"
              busy={busy}
              onClick={() =>
                run(async () => {
                  await call("DELETE", "v1/activation");
                  onAgain();
                })
              }
            >
              {t(["Stop trying", "停止尝试"])}
            </Button>
          )
        )}
      </Card>
    </main>
  );
}
