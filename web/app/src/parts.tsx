// The few building blocks that every screen is made of.
import type { ButtonHTMLAttributes, ComponentChildren, InputHTMLAttributes } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Text } from "../../shared/language";
import { AWAY, Refused } from "./device";
import { Icon, type IconName } from "./icons";
import { explain } from "./problems";
import { t } from "./words";

export function Card({
  title,
  children,
  class: name = "",
}: {
  title?: string;
  children: ComponentChildren;
  class?: string;
}) {
  return (
    <section class={`card ${name}`}>
      {title && <h2>{title}</h2>}
      {children}
    </section>
  );
}

type ButtonProps = {
  kind?: "main" | "plain" | "danger" | "quiet";
  busy?: boolean;
  icon?: IconName;
} & ButtonHTMLAttributes<HTMLButtonElement>;

export function Button({
  kind = "main",
  busy = false,
  icon,
  children,
  class: name = "",
  ...more
}: ButtonProps) {
  // Not disabled while busy: focus would be lost. A second tap does nothing, which the caller's action sees to.
  return (
    <button type="button" {...more} class={`button ${kind} ${String(name)}`} aria-busy={busy}>
      {icon && <Icon name={icon} />}
      <span>{children}</span>
    </button>
  );
}

export function Notice({
  kind = "info",
  children,
}: {
  kind?: "info" | "warning" | "error";
  children: ComponentChildren;
}) {
  return (
    <div class={`notice ${kind}`} role={kind === "error" ? "alert" : "status"}>
      {kind !== "info" && <Icon name="warning" />}
      <div>{children}</div>
    </div>
  );
}

type FieldProps = {
  label: string;
  hint?: string;
  fault?: string | undefined;
} & InputHTMLAttributes<HTMLInputElement>;

export function Field({ label, hint, fault, ...more }: FieldProps) {
  const id = useId();
  const told = [hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} {...more} aria-describedby={told || undefined} aria-invalid={fault ? true : undefined} />
      {hint && (
        <p id={`${id}-hint`} class="soft">
          {hint}
        </p>
      )}
      {fault && (
        <p id={`${id}-fault`} class="fault">
          {fault}
        </p>
      )}
    </div>
  );
}

export interface Option<T> {
  value: T;
  title: string;
  text?: string;
}

export function Choice<T extends string | number>(props: {
  legend: string;
  options: readonly Option<T>[];
  value: T | null;
  onChoose: (value: T) => void;
  hideLegend?: boolean;
}) {
  const name = useId();
  return (
    <fieldset class="choice">
      <legend class={props.hideLegend ? "unseen" : ""}>{props.legend}</legend>
      {props.options.map((option) => (
        <label key={option.value} class={option.value === props.value ? "chosen" : ""}>
          <input
            type="radio"
            name={name}
            checked={option.value === props.value}
            onChange={() => props.onChoose(option.value)}
          />
          <span>
            <strong>{option.title}</strong>
            {option.text && <small>{option.text}</small>}
          </span>
        </label>
      ))}
    </fieldset>
  );
}

export function Check({
  checked,
  onChange,
  children,
}: {
  checked: boolean;
  onChange: (on: boolean) => void;
  children: ComponentChildren;
}) {
  return (
    <label class="check">
      <input type="checkbox" checked={checked} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span>{children}</span>
    </label>
  );
}

/** A modal question; the browser keeps the focus in it and gives it back. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const shown = dialog.current;
    if (!shown?.open) shown?.showModal();
    return () => shown?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <div class="sheet">
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

export function problemText(error: unknown): Text {
  return error instanceof Refused ? error.text : explain(AWAY);
}

/** An action under way at most once: `run` does nothing while one runs. */
export function useAction(): {
  busy: boolean;
  fault: Text | null;
  run: (work: () => Promise<void>) => Promise<void>;
  clear: () => void;
} {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<Text | null>(null);
  const running = useRef(false);
  const run = async (work: () => Promise<void>) => {
    if (running.current) return;
    running.current = true;
    setBusy(true);
    setFault(null);
    try {
      await work();
    } catch (error) {
      setFault(problemText(error));
    } finally {
      running.current = false;
      setBusy(false);
    }
  };
  return { busy, fault, run, clear: () => setFault(null) };
}

export function Fault({ text }: { text: Text | null }) {
  return text && <Notice kind="error">{t(text)}</Notice>;
}

/** The heading of a screen; it takes the focus when the screen comes, so that readers begin there. */
export function Heading({ children, unseen = false }: { children: string; unseen?: boolean }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${children} – Fallow`;
  }, [children]);
  useEffect(() => heading.current?.focus({ preventScroll: true }), []);
  return (
    <h1 ref={heading} tabIndex={-1} class={unseen ? "unseen" : ""}>
      {children}
    </h1>
  );
}
