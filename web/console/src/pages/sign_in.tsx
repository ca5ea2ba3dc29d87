// Signing in with the token of an account.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { call, type Session } from "../api";
import { Field, Form, Notice } from "../parts";
import { t } from "../words";

interface Props {
  ended: boolean;
  aside: ComponentChildren;
  onSession: (session: Session) => void;
}

export function SignIn(props: Props) {
  const [token, setToken] = useState("");
  document.title = `${t("Sign in", "登录")} – Fallow`;
  return (
    <main class="alone">
      <header>
        <h1>{t("Fallow console", "Fallow 控制台")}</h1>
        {props.aside}
      </header>
      <p>{t("For operators and publishers.", "供运营者和发布者使用。")}</p>
      {props.ended && (
        <Notice tone="warn">
          {t("You are no longer signed in. Please sign in again.", "登录已失效，请重新登录。")}
        </Notice>
      )}
      <Form
        action={t("Sign in", "登录")}
        onSend={async () => {
          props.onSession(await call<Session>("POST", "session", { body: { token: token.trim() } }));
        }}
      >
        <Field
          label={t("Token of your account", "账户令牌")}
          kind="password"
          autocomplete="current-password"
          required
          maxLength={128}
          value={token}
          onInput={setToken}
          hint={t(
            "It begins with fa_ or fp_. If it is lost: fallow-server operator-token makes an operator another; publishers ask the operator.",
            "以 fa_ 或 fp_ 开头。遗失时，运营者可用 fallow-server operator-token 另行签发；发布者请联系运营者。",
          )}
        />
      </Form>
    </main>
  );
}
