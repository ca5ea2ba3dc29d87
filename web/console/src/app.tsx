// The frame: who is signed in, where to go, and the page that the address names.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call, type Problem, type Session, useSession, whenEnded } from "./api";
import { pagesOf } from "./pages";
import { SignIn } from "./pages/sign_in";
import { Loading, Trouble } from "./parts";
import { link, type Route, useRoute } from "./route";
import { choose, language, t } from "./words";

type Told = ({ signed_in: true } & Session) | { signed_in: false };

export function App() {
  const [session, setSession] = useState<Session | null | undefined>();
  const [trouble, setTrouble] = useState<Problem>();
  const [wasEnded, setEnded] = useState(false);
  const [, redraw] = useState(0);
  const [tries, setTries] = useState(0);
  useSession(session ?? null);
  useEffect(() => {
    whenEnded(() => {
      setEnded(true);
      setSession(null);
    });
    call<Told>("GET", "session").then(
      (told) => setSession(told.signed_in ? told : null),
      (problem: Problem) => setTrouble(problem),
    );
  }, [tries]);
  const languages = (
    <button
      type="button"
      class="plain"
      lang={language() === "zh" ? "en" : "zh-Hans"}
      onClick={() => {
        choose(language() === "zh" ? "en" : "zh");
        redraw((number) => number + 1);
      }}
    >
      {language() === "zh" ? "English" : "中文"}
    </button>
  );
  if (session === undefined) {
    return (
      <main class="alone">
        <Trouble of={trouble} />
        {trouble ? (
          <button
            type="button"
            class="main"
            onClick={() => {
              setTrouble(undefined);
              setTries(tries + 1);
            }}
          >
            {t("Try again", "重试")}
          </button>
        ) : (
          <Loading />
        )}
      </main>
    );
  }
  if (session === null) {
    return (
      <SignIn
        ended={wasEnded}
        aside={languages}
        onSession={(made) => {
          setEnded(false);
          setSession(made);
        }}
      />
    );
  }
  const leave = async () => {
    try {
      await call("DELETE", "session");
    } finally {
      setEnded(false);
      setSession(null);
    }
  };
  return (
    <Frame session={session} onLeave={leave}>
      {languages}
    </Frame>
  );
}

function Frame(props: { session: Session; onLeave: () => void; children: ComponentChildren }) {
  const route = useRoute();
  const pages = pagesOf(props.session);
  const name = route.parts[0] ?? "";
  const page = pages.find((one) => one.name === name || one.below?.includes(name)) ?? pages[0];
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("content")?.focus()}>
        {t("Skip to the content", "跳到正文")}
      </button>
      <header class="top">
        <a class="brand" href={link([])}>
          Fallow
        </a>
        <button
          type="button"
          class="menu"
          aria-expanded={open}
          aria-controls="places"
          onClick={() => setOpen(!open)}
        >
          {t("Menu", "菜单")}
        </button>
        <div class="who">
          <span class="name">{props.session.name}</span>
          {props.children}
          <button type="button" class="plain" onClick={props.onLeave}>
            {t("Sign out", "退出")}
          </button>
        </div>
      </header>
      <div class="frame">
        <nav
          id="places"
          class={open ? "open" : undefined}
          aria-label={t("Pages of the console", "控制台页面")}
        >
          <ul>
            {pages.map((one) => (
              <li key={one.name}>
                <a
                  href={link(one.name ? [one.name] : [])}
                  aria-current={one === page ? "page" : undefined}
                  onClick={() => setOpen(false)}
                >
                  {one.title()}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        {page && (
          <Content
            key={`${page.name} ${route.parts.join("/")}`}
            title={page.title()}
            route={route}
            show={page.show}
          />
        )}
      </div>
    </>
  );
}

function Content(props: { title: string; route: Route; show: (route: Route) => ComponentChildren }) {
  const ref = useRef<HTMLElement>(null);
  useEffect(() => {
    document.title = `${props.title} – Fallow`;
  }, [props.title]);
  useEffect(() => {
    // Readers of screens hear where they are; the first page speaks for itself.
    if (document.activeElement !== document.body) ref.current?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, []);
  return (
    <main id="content" ref={ref} tabIndex={-1}>
      {props.show(props.route)}
    </main>
  );
}
