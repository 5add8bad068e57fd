// The small parts all pages are made of. Each is plain HTML as far as it goes: dialogs and forms bring the browser's own
// keyboard handling with them.
import { DropdownMenu, Tooltip } from "radix-ui";
import { AlertTriangle, ChevronDown, Loader2, type LucideIcon } from "lucide-react";
import {
  useId,
  type ButtonHTMLAttributes,
  type InputHTMLAttributes,
  type TextareaHTMLAttributes,
  type ReactNode,
} from "react";
import { ApiError, words } from "../api/client";

export const cx = (...names: (string | false | undefined)[]) => names.filter(Boolean).join(" ");

/** What went wrong, where it went wrong. */
export function Failure({ error, children }: { error: unknown; children?: ReactNode }) {
  if (!error) return null;
  const problem = error instanceof ApiError ? error.problem : undefined;
  return (
    <div className="rounded-md bg-bad-soft px-4 py-3 wrap-anywhere text-bad" role="alert">
      <strong>{problem?.status === 401 ? "Not accepted" : (problem?.title ?? "Failed")}</strong>
      <p>{words(error)}</p>
      {problem?.errors && problem.errors.length > 1 && (
        <ul className="list-inside list-disc">
          {problem.errors.map((fault) => (
            <li key={fault.field}>
              <code>{fault.field}</code>: {fault.reason}
            </li>
          ))}
        </ul>
      )}
      {problem?.request_id && problem.status >= 500 && (
        <p className="text-sm">Request {problem.request_id}</p>
      )}
      {children}
    </div>
  );
}

export function Warning({ children }: { children: ReactNode }) {
  return (
    <p className="flex gap-2 rounded-md bg-warn-soft px-4 py-2.5 wrap-anywhere text-warn" role="status">
      <AlertTriangle size={18} className="mt-0.5 flex-none" aria-hidden />
      <span>{children}</span>
    </p>
  );
}

export type Kind = "primary" | "danger" | "plain" | "quiet";
const KINDS: Record<Kind, string> = {
  primary: "bg-accent border-accent text-on-accent hover:not-disabled:bg-accent-strong",
  danger: "bg-bad border-bad text-surface hover:not-disabled:opacity-90",
  plain: "bg-raised border-line text-text hover:not-disabled:border-control",
  quiet:
    "bg-transparent border-transparent text-dim hover:not-disabled:bg-sunken hover:not-disabled:text-text",
};
export const buttonClass = (kind: Kind = "plain", small = false) =>
  cx(
    "button inline-flex items-center justify-center gap-1.5 rounded-md border font-medium whitespace-nowrap no-underline select-none",
    "disabled:opacity-50 aria-disabled:cursor-not-allowed aria-disabled:opacity-50",
    small ? "min-h-7 px-2.5 text-sm" : "min-h-8.5 px-3.5",
    KINDS[kind],
  );

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  kind?: Kind;
  small?: boolean;
  icon?: LucideIcon;
  busy?: boolean | undefined;
  /** Why it cannot be used now; shown instead of hiding the button. */
  refusal?: string | undefined;
};

export function Button({
  kind,
  small,
  icon: Icon,
  busy,
  refusal,
  className,
  children,
  onClick,
  ...rest
}: ButtonProps) {
  const button = (
    <button
      type="button"
      {...rest}
      className={cx(buttonClass(kind, small), !children && (small ? "w-7 px-0!" : "w-8.5 px-0!"), className)}
      disabled={rest.disabled || busy}
      // A button with a reason stays reachable, so that the reason can be read.
      aria-disabled={refusal !== undefined || undefined}
      onClick={refusal === undefined ? onClick : (event) => event.preventDefault()}
    >
      {busy ? (
        <Loader2 size={15} className="animate-spin" aria-hidden />
      ) : (
        Icon && <Icon size={small ? 15 : 16} aria-hidden />
      )}
      {children}
    </button>
  );
  return refusal === undefined ? button : <Hint text={refusal}>{button}</Hint>;
}

/** A word on something when it is pointed at or focused. */
export function Hint({ text, children }: { text: string; children: ReactNode }) {
  return (
    <Tooltip.Provider delayDuration={250}>
      <Tooltip.Root>
        <Tooltip.Trigger asChild>{children}</Tooltip.Trigger>
        <Tooltip.Portal>
          <Tooltip.Content
            sideOffset={6}
            collisionPadding={8}
            className="z-50 max-w-80 rounded-md bg-text px-2.5 py-1.5 text-sm text-page shadow-lg"
          >
            {text}
          </Tooltip.Content>
        </Tooltip.Portal>
      </Tooltip.Root>
    </Tooltip.Provider>
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
    <div className="flex min-w-0 flex-col gap-1">
      <label htmlFor={id} className="font-medium">
        {label}
      </label>
      {children({
        id,
        ...(note ? { "aria-describedby": `${id}-note` } : {}),
        ...(fault ? { "aria-invalid": true } : {}),
      })}
      {note && (
        <p
          id={`${id}-note`}
          className={cx("text-sm", fault ? "text-bad" : "text-dim")}
          role={fault ? "alert" : undefined}
        >
          {note}
        </p>
      )}
    </div>
  );
}

interface Labelled {
  label: string;
  hint?: ReactNode;
  fault?: string | undefined;
}

/** A text field. */
export function Text({
  label,
  hint,
  fault,
  className,
  ...input
}: Labelled & InputHTMLAttributes<HTMLInputElement>) {
  return (
    <Field label={label} hint={hint} fault={fault}>
      {(props) => (
        <input
          type="text"
          autoComplete="off"
          spellCheck={false}
          {...input}
          {...props}
          className={cx("input", className)}
        />
      )}
    </Field>
  );
}

/** Several lines, in a type where columns stand under each other. */
export function TextArea({
  label,
  hint,
  fault,
  className,
  ...input
}: Labelled & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  return (
    <Field label={label} hint={hint} fault={fault}>
      {(props) => (
        <textarea
          autoComplete="off"
          spellCheck={false}
          {...input}
          {...props}
          className={cx("input font-mono text-sm", className)}
        />
      )}
    </Field>
  );
}

/** One of several. */
export function Select({
  options,
  none,
  onValue,
  label,
  hint,
  fault,
  ...select
}: Labelled & {
  value: string;
  disabled?: boolean;
  options: readonly (readonly [value: string, label: string])[];
  /** What the empty value means. */
  none?: string;
  onValue: (value: string) => void;
}) {
  return (
    <Field label={label} hint={hint} fault={fault}>
      {(props) => (
        <select {...select} {...props} className="input" onChange={(event) => onValue(event.target.value)}>
          {none !== undefined && <option value="">{none}</option>}
          {options.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

export function Check({
  children,
  hint,
  fault,
  ...input
}: {
  children: ReactNode;
  hint?: ReactNode;
  fault?: string | undefined;
} & InputHTMLAttributes<HTMLInputElement>) {
  return (
    <label className="flex items-start gap-2.5">
      <input type="checkbox" {...input} className="check mt-0.5" />
      <span>
        {children}
        {hint && <span className="block text-sm text-dim">{hint}</span>}
        {fault && (
          <span className="block text-sm text-bad" role="alert">
            {fault}
          </span>
        )}
      </span>
    </label>
  );
}

export interface MenuItem {
  label: string;
  icon?: LucideIcon;
  danger?: boolean | undefined;
  refusal?: string | undefined;
  /** A line above it. */
  apart?: boolean;
  run: () => void;
}

/** A button that opens a menu. What cannot be done now stays in it, with the reason. */
export function Menu({
  label,
  items,
  children,
  trigger,
}: {
  label: string;
  items: MenuItem[];
  /** The button's words; three dots where absent. */
  children?: ReactNode;
  trigger?: ReactNode;
}) {
  return (
    // Not modal: a modal one would lock scrolling by an inline <style>, which the page's security policy forbids.
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger asChild>
        {trigger ?? (
          <button
            type="button"
            className={cx(buttonClass(children ? "plain" : "quiet"), !children && "w-8.5 px-0!")}
            aria-label={label}
          >
            {children ? (
              <>
                {children}
                <ChevronDown size={15} aria-hidden />
              </>
            ) : (
              <span aria-hidden className="text-lg leading-none">
                ⋯
              </span>
            )}
          </button>
        )}
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          align="end"
          sideOffset={4}
          collisionPadding={8}
          className="z-40 max-h-(--radix-dropdown-menu-content-available-height) min-w-48 overflow-y-auto rounded-lg border border-line bg-raised p-1 shadow-xl"
        >
          {items.map((item) => (
            <div key={item.label} role="none">
              {item.apart && <DropdownMenu.Separator className="my-1 h-px bg-line" />}
              <DropdownMenu.Item
                className={cx(
                  "flex cursor-pointer items-center gap-2.5 rounded-md px-2.5 py-1.5 outline-none data-highlighted:bg-sunken",
                  item.danger && "text-bad",
                  item.refusal !== undefined && "cursor-not-allowed",
                )}
                aria-disabled={item.refusal !== undefined || undefined}
                onSelect={(event) => (item.refusal === undefined ? item.run() : event.preventDefault())}
              >
                {item.icon && <item.icon size={16} aria-hidden className="flex-none self-start mt-0.5" />}
                <span>
                  <span className={cx(item.refusal !== undefined && "opacity-65")}>{item.label}</span>
                  {item.refusal !== undefined && (
                    <span className="block text-sm text-dim">{item.refusal}</span>
                  )}
                </span>
              </DropdownMenu.Item>
            </div>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

const DOTS: Record<string, string> = {
  running: "bg-good-dot",
  ready: "bg-good-dot",
  succeeded: "bg-good-dot",
  up: "bg-good-dot",
  witness: "bg-good-dot",
  starting: "bg-warn-dot animate-pulse-slow",
  stopping: "bg-warn-dot animate-pulse-slow",
  uploading: "bg-warn-dot animate-pulse-slow",
  creating: "bg-warn-dot animate-pulse-slow",
  deleting: "bg-warn-dot animate-pulse-slow",
  pending: "bg-warn-dot",
  paused: "bg-warn-dot",
  warning: "bg-warn-dot",
  maintenance: "bg-warn-dot",
  unknown: "bg-warn-dot",
  failed: "bg-bad-dot",
  error: "bg-bad-dot",
  away: "bg-bad-dot",
};

/** The colour of a state. */
export function Dot({ state }: { state: string }) {
  return (
    <span
      aria-hidden
      className={cx("inline-block size-2.5 flex-none rounded-full", DOTS[state] ?? "bg-idle-dot")}
    />
  );
}

/** The state of an object, by colour and by word. */
export function State({ state, word = state }: { state: string; word?: string }) {
  return (
    <span className="inline-flex items-center gap-2 whitespace-nowrap">
      <Dot state={state} />
      <span
        className={cx(
          (state === "failed" || state === "error" || state === "away") && "font-medium text-bad",
        )}
      >
        {word}
      </span>
    </span>
  );
}

export function Loading() {
  return (
    <p className="flex items-center gap-2 p-1 text-dim" role="status">
      <Loader2 size={16} className="animate-spin" aria-hidden /> Loading …
    </p>
  );
}

/** A share as a bar, 0 to 1. */
export function Bar({ share, label, text }: { share: number; label: string; text?: ReactNode }) {
  const percent = Math.round(Math.min(1, Math.max(0, share)) * 100);
  return (
    <div className="min-w-0">
      <div className="mb-1 flex flex-wrap justify-between gap-x-3">
        <span className="text-dim">{label}</span>
        <span>{text ?? `${percent} %`}</span>
      </div>
      <div
        role="meter"
        aria-label={label}
        aria-valuenow={percent}
        aria-valuemin={0}
        aria-valuemax={100}
        className="h-2 overflow-hidden rounded-full bg-sunken"
      >
        <div
          className={cx(
            "h-full rounded-full",
            percent >= 90 ? "bg-bad-dot" : percent >= 75 ? "bg-warn-dot" : "bg-accent",
          )}
          style={{ width: `${percent}%` }}
        />
      </div>
    </div>
  );
}

export function Card({
  title,
  actions,
  children,
}: {
  title?: string;
  actions?: ReactNode;
  children: ReactNode;
}) {
  return (
    <section className="card min-w-0" aria-label={title}>
      {title && (
        <header className="flex min-h-11 flex-wrap items-center gap-2 border-b border-line px-4 py-1.5">
          <h2 className="mr-auto font-semibold">{title}</h2>
          {actions}
        </header>
      )}
      <div className="p-4">{children}</div>
    </section>
  );
}

/** Names and values. */
export function Facts({ children }: { children: ReactNode }) {
  return <dl className="grid grid-cols-[minmax(7rem,auto)_1fr] gap-x-5 gap-y-2">{children}</dl>;
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  if (children === undefined || children === null || children === false || children === "") return null;
  return (
    <>
      <dt className="text-dim">{name}</dt>
      <dd className="min-w-0 wrap-anywhere">{children}</dd>
    </>
  );
}

/** Nothing here yet, and what to do. */
export function Empty({
  icon: Icon,
  title,
  children,
}: {
  icon: LucideIcon;
  title: string;
  children?: ReactNode;
}) {
  return (
    <div className="flex flex-col items-center gap-2 px-6 py-14 text-center">
      <Icon size={34} strokeWidth={1.4} className="text-dim" aria-hidden />
      <p className="font-semibold">{title}</p>
      {children && <div className="max-w-120 text-dim">{children}</div>}
    </div>
  );
}
