// `/watch/{id}` plays an object, `/watch/stream?playlist={site}/{path}` a playlist, and shows who sends it.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import "../../../shared/tokens.css";
import "./watch.css";
import { currentLanguage, keepLanguage, type Language, say, type Text } from "../../../shared/language";
import { type FallowEvent, openObject, SchedulerError } from "../../src/fallow";
import { EMPTY, type Home, type Note, percentFromHomes, type Tally, told } from "./tally";
import { TEXTS } from "./texts";

/** Whole files of other kinds are fetched before they play, up to this. */
const WHOLE_BYTES_MAX = 128 * 2 ** 20;
/** Many chunks come in a second; the page is drawn this often. */
const DRAW_MS = 250;

type State = "opening" | "playing" | "plain" | { failed: string } | "missing";

const BASE = new URL("../", location.href).href;
const PLAYLIST = new URLSearchParams(location.search).get("playlist");

async function play(
  video: HTMLVideoElement,
  onEvent: (event: FallowEvent) => void,
  onState: (state: State) => void,
  signal: AbortSignal,
): Promise<void> {
  const id = location.pathname.split("/").pop() ?? "";
  if (PLAYLIST !== null) {
    const { playStream } = await import("./stream");
    onState("playing");
    await playStream(video, `${BASE}s/${PLAYLIST}`, onEvent, signal);
  }
  const address = `${BASE}o/${id}/video`;
  const object = await openObject(address, { signal, onEvent });
  try {
    if (object.type === "video/mp4" && "MediaSource" in window) {
      const { NotPlayable, playMp4 } = await import("./mp4");
      onState("playing");
      try {
        await playMp4(video, object, signal);
      } catch (error) {
        if (!(error instanceof NotPlayable)) throw error;
      }
    } else if (object.size <= WHOLE_BYTES_MAX) {
      const blob = new Blob([await object.read()], { type: object.type });
      video.src = URL.createObjectURL(blob);
      onState("playing");
      return;
    }
  } finally {
    void object.close();
  }
  // By itself the player follows redirects to homes, which a page that came by https may not.
  video.src = location.protocol === "https:" ? `${address}?source=origin` : address;
  onState("plain");
}

function Page() {
  const [language, setLanguage] = useState<Language>(currentLanguage);
  const [tally, setTally] = useState<Tally>(EMPTY);
  const [state, setState] = useState<State>("opening");
  const [attempt, setAttempt] = useState(0);
  const video = useRef<HTMLVideoElement>(null);
  const name = PLAYLIST ?? tally.name;
  const t = (text: Text, values?: Record<string, string | number>) => say(text, language, values);

  useEffect(() => {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    document.title = name === "" ? "Fallow" : `${name} – Fallow`;
  }, [language, name]);

  useEffect(() => {
    const shown = video.current;
    if (shown === null) return;
    const ending = new AbortController();
    let latest = EMPTY;
    let drawing = false;
    const onEvent = (event: FallowEvent) => {
      latest = told(latest, event);
      if (drawing) return;
      drawing = true;
      setTimeout(() => {
        drawing = false;
        setTally(latest);
      }, DRAW_MS);
    };
    setState("opening");
    setTally(EMPTY);
    play(shown, onEvent, setState, ending.signal).catch((error: unknown) => {
      if (ending.signal.aborted) return;
      const missing = error instanceof SchedulerError && error.status === 404;
      setState(missing ? "missing" : { failed: error instanceof Error ? error.message : String(error) });
    });
    return () => ending.abort();
  }, [attempt]);

  const nameOf = (home: { number: number; country: string | undefined }) =>
    home.country === undefined
      ? t(TEXTS.home, { n: home.number })
      : t(TEXTS.homeIn, { n: home.number, country: countryIn(home.country, language) });
  const change = () => {
    const next = language === "zh" ? "en" : "zh";
    keepLanguage(next);
    setLanguage(next);
  };

  return (
    <>
      <header>
        <p class="mark">Fallow</p>
        <button type="button" lang={language === "zh" ? "en" : "zh-CN"} onClick={change}>
          {t(TEXTS.language)}
        </button>
      </header>
      <main>
        <h1>{name || t(TEXTS.opening)}</h1>
        {/* biome-ignore lint/a11y/useMediaCaption: what a publisher's file has of them is shown by the browser */}
        <video ref={video} controls playsInline />
        <p class="state" role="status">
          {stateText(state, tally, t)}
        </p>
        {typeof state === "object" && (
          <button type="button" onClick={() => setAttempt(attempt + 1)}>
            {t(TEXTS.again)}
          </button>
        )}
        {tally.barred && <p class="notice">{t(TEXTS.barred)}</p>}
        {state === "plain" && <p class="notice">{t(TEXTS.plainly)}</p>}
        <section aria-labelledby="from">
          <h2 id="from">{t(TEXTS.from)}</h2>
          <Sources tally={tally} nameOf={nameOf} origin={t(TEXTS.origin)} nothing={t(TEXTS.nothing)} />
        </section>
        <section aria-labelledby="happened">
          <h2 id="happened">{t(TEXTS.happened)}</h2>
          <Notes notes={tally.notes} t={t} nameOf={nameOf} />
        </section>
        <section aria-labelledby="about">
          <h2 id="about">{t(TEXTS.about)}</h2>
          <p>{t(TEXTS.aboutBytes)}</p>
          <p>{t(TEXTS.aboutYou)}</p>
        </section>
      </main>
    </>
  );
}

type Say = (text: Text, values?: Record<string, string | number>) => string;

function stateText(state: State, tally: Tally, t: Say): string {
  if (state === "missing") return t(TEXTS.missing);
  if (typeof state === "object") return t(TEXTS.failed, { reason: state.failed });
  const percent = percentFromHomes(tally);
  if (percent === undefined) return t(state === "opening" ? TEXTS.opening : TEXTS.playing);
  const homes = [...tally.homes.values()].filter((home) => home.bytes > 0).length;
  if (homes === 0) return t(TEXTS.shareOfNone);
  return t(homes === 1 ? TEXTS.shareOfOne : TEXTS.share, { percent, homes });
}

function Sources(props: { tally: Tally; nameOf: (home: Home) => string; origin: string; nothing: string }) {
  const { homes, originBytes } = props.tally;
  const sending = [...homes.values()].filter((home) => home.bytes > 0 || home.lost);
  const shown = sending.map((home) => ({
    key: home.number,
    name: props.nameOf(home),
    bytes: home.bytes,
    kind: home.lost ? "lost" : "home",
  }));
  if (originBytes > 0) shown.push({ key: 0, name: props.origin, bytes: originBytes, kind: "origin" });
  if (shown.length === 0) return <p class="soft">{props.nothing}</p>;
  const most = Math.max(1, ...shown.map((one) => one.bytes));
  return (
    <ul class="sources">
      {shown.map((one) => (
        <li key={one.key} class={one.kind}>
          <span class="name">{one.name}</span>
          <span class="bytes">{bytesText(one.bytes)}</span>
          <progress max={most} value={one.bytes} aria-hidden="true" />
        </li>
      ))}
    </ul>
  );
}

function Notes(props: { notes: readonly Note[]; t: Say; nameOf: (home: Home) => string }) {
  if (props.notes.length === 0) return <p class="soft">{props.t(TEXTS.quiet)}</p>;
  return (
    <ul>
      {props.notes.map(({ kind, number, country }, at) => {
        const source =
          number === undefined
            ? props.t(TEXTS.origin)
            : props.nameOf({ number, country, bytes: 0, lost: true });
        return (
          <li key={`${kind} ${number} ${props.notes.length - at}`}>{props.t(TEXTS[kind], { source })}</li>
        );
      })}
    </ul>
  );
}

function countryIn(country: string, language: Language): string {
  return new Intl.DisplayNames([language], { type: "region" }).of(country) ?? country;
}

function bytesText(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

// A page that was left has ended its transfers.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
const root = document.getElementById("page");
if (root !== null) render(<Page />, root);
