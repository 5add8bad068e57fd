// The small parts all pages are made of. Each is plain HTML as far as it goes: dialogs, menus and forms bring the
// browser's own keyboard handling with them.
import {
  useEffect,
  useId,
  useRef,
  type ButtonHTMLAttributes,
  type InputHTMLAttributes,
  type KeyboardEvent,
  type ReactNode,
} from "react";
import { ApiError, words } from "../api/client";

/** What went wrong, where it went wrong. */
export function Failure({ error, children }: { error: unknown; children?: ReactNode }) {
  if (!error) return null;
  const problem = error instanceof ApiError ? error.problem : undefined;
  return (
    <div className="failure" role="alert">
      <strong>{problem?.status === 401 ? "Not accepted" : (problem?.title ?? "Failed")}</strong>
      <p>{words(error)}</p>
      {problem?.errors && problem.errors.length > 1 && (
        <ul>
          {problem.errors.map((fault) => (
            <li key={fault.field}>
              <code>{fault.field}</code>: {fault.reason}
            </li>
          ))}
        </ul>
      )}
      {problem?.request_id && problem.status >= 500 && <p className="dim">Request {problem.request_id}</p>}
      {children}
    </div>
  );
}

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  kind?: "primary" | "danger" | "plain";
  /** Why it cannot be used now; shown instead of hiding the button. */
  refusal?: string | undefined;
};

export function Button({ kind = "plain", refusal, className = "", ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      className={`button ${kind} ${className}`}
      title={refusal ?? rest.title}
      disabled={rest.disabled || refusal !== undefined}
    />
  );
}

/** A labelled control with its hint and its fault. */
export function Field({
  label,
  hint,
  fault,
  children,
}: {
  label: string;
  hint?: ReactNode;
  fault?: string | undefined;
  children: (props: { id: string; "aria-describedby"?: string; "aria-invalid"?: boolean }) => ReactNode;
}) {
  const id = useId();
  const note = fault ?? hint;
  return (
    <div className={`field ${fault ? "faulty" : ""}`}>
      <label htmlFor={id}>{label}</label>
      {children({
        id,
        ...(note ? { "aria-describedby": `${id}-note` } : {}),
        ...(fault ? { "aria-invalid": true } : {}),
      })}
      {note && (
        <p id={`${id}-note`} className={fault ? "fault" : "hint"} role={fault ? "alert" : undefined}>
          {note}
        </p>
      )}
    </div>
  );
}

/** A text field. */
export function Text({
  label,
  hint,
  fault,
  ...input
}: { label: string; hint?: ReactNode; fault?: string | undefined } & InputHTMLAttributes<HTMLInputElement>) {
  return (
    <Field label={label} hint={hint} fault={fault}>
      {(props) => <input type="text" autoComplete="off" spellCheck={false} {...input} {...props} />}
    </Field>
  );
}

/** A question before something that cannot be undone. */
export function Confirm({
  title,
  verb,
  busy,
  error,
  onConfirm,
  onClose,
  children,
}: {
  title: string;
  verb: string;
  busy?: boolean;
  error?: unknown;
  onConfirm: () => void;
  onClose: () => void;
  children: ReactNode;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={heading} onClose={onClose}>
      <h2 id={heading}>{title}</h2>
      {children}
      <Failure error={error} />
      <div className="buttons end">
        <Button autoFocus onClick={() => dialog.current?.close()}>
          Cancel
        </Button>
        <Button kind="danger" disabled={busy} onClick={onConfirm}>
          {verb}
        </Button>
      </div>
    </dialog>
  );
}

export interface MenuItem {
  label: string;
  danger?: boolean | undefined;
  refusal?: string | undefined;
  run: () => void;
}

/** A button that opens a menu. Arrow keys move, Escape and a click elsewhere close. */
export function Menu({ label, items }: { label: string; items: MenuItem[] }) {
  const button = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);
  const id = useId();

  const place = () => {
    const at = button.current!.getBoundingClientRect();
    const style = menu.current!.style;
    // Under the button, its right edge aligned; above it where there is no room.
    const height = items.length * 40 + 12;
    style.top = `${at.bottom + height > innerHeight ? Math.max(4, at.top - height) : at.bottom + 4}px`;
    style.left = `${Math.max(4, at.right - 176)}px`;
  };
  const keys = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...menu.current!.querySelectorAll<HTMLButtonElement>("button:not(:disabled)")];
    const now = all.indexOf(document.activeElement as HTMLButtonElement);
    all[(now + step + all.length) % all.length]?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        className="button plain icon"
        aria-label={label}
        aria-haspopup="menu"
        popoverTarget={id}
        onClick={place}
      >
        <span aria-hidden="true">⋯</span>
      </button>
      <div
        ref={menu}
        id={id}
        popover="auto"
        role="menu"
        className="menu"
        onKeyDown={keys}
        onToggle={(event) => {
          if (event.newState === "open")
            menu.current?.querySelector<HTMLButtonElement>("button:not(:disabled)")?.focus();
        }}
      >
        {items.map((item) => (
          <button
            key={item.label}
            type="button"
            role="menuitem"
            className={item.danger ? "danger" : ""}
            disabled={item.refusal !== undefined}
            title={item.refusal}
            onClick={() => {
              menu.current?.hidePopover();
              item.run();
            }}
          >
            {item.label}
          </button>
        ))}
      </div>
    </>
  );
}

/** The state of an object, by colour and by word. */
export function State({ state }: { state: string }) {
  return <span className={`state ${state}`}>{state}</span>;
}

export function Loading() {
  return (
    <p className="dim" role="status">
      Loading …
    </p>
  );
}
