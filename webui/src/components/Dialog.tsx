// Dialogs: the browser's own, so focus, Escape and the inert page behind come with it.
import { useEffect, useId, useRef, useState, type FormEvent, type ReactNode } from "react";
import { X } from "lucide-react";
import { Button, Check, Failure, Text, cx, type Kind } from "./ui";

export function Dialog({
  title,
  onClose,
  wide,
  children,
}: {
  title: string;
  /** Asked to close: by Escape, by its cross. Absent where it has to stay. */
  onClose?: () => void;
  wide?: boolean;
  children: ReactNode;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const element = dialog.current!;
    const before = document.activeElement;
    if (!element.open) element.showModal();
    // To what is asked, rather than to the cross that the browser would choose.
    const body = element.lastElementChild!;
    (
      body.querySelector<HTMLElement>("input, select, textarea") ?? body.querySelector<HTMLElement>("button")
    )?.focus();
    return () => {
      element.close();
      // Where the browser has lost its way back, to the one who opened it.
      if (before instanceof HTMLElement && document.activeElement === document.body) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      onCancel={(event) => {
        // What is drawn decides whether it is open.
        event.preventDefault();
        if (event.target === dialog.current) onClose?.();
      }}
      className={cx(
        "m-auto max-h-[calc(100dvh-2rem)] rounded-xl border border-line bg-raised p-0 shadow-2xl",
        wide ? "w-[min(46rem,100vw-1.5rem)]" : "w-[min(32rem,100vw-1.5rem)]",
      )}
    >
      <div className="flex items-center gap-3 border-b border-line px-5 py-3">
        <h2 id={heading} className="mr-auto text-base font-semibold wrap-anywhere">
          {title}
        </h2>
        {onClose && <Button kind="quiet" small icon={X} aria-label="Close" onClick={onClose} />}
      </div>
      <div className="flex flex-col gap-4 p-5">{children}</div>
    </dialog>
  );
}

/** A form in a dialog. */
export function FormDialog({
  title,
  verb,
  kind = "primary",
  busy,
  error,
  refusal,
  wide,
  onSubmit,
  onClose,
  children,
}: {
  title: string;
  verb: string;
  kind?: Kind;
  busy?: boolean;
  error?: unknown;
  refusal?: string | undefined;
  wide?: boolean;
  onSubmit: () => void;
  onClose: () => void;
  children: ReactNode;
}) {
  return (
    <Dialog title={title} onClose={onClose} {...(wide ? { wide } : {})}>
      <form
        noValidate
        className="flex flex-col gap-4"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          event.stopPropagation();
          if (refusal === undefined && !busy) onSubmit();
        }}
      >
        {children}
        <Failure error={error} />
        <div className="flex flex-wrap justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind={kind} busy={busy} refusal={refusal}>
            {verb}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

/** A question before something that cannot be undone. `name` has to be typed where it destroys. */
export function Confirm({
  title,
  verb,
  name,
  option,
  busy,
  error,
  refusal: lacking,
  onConfirm,
  onClose,
  children,
}: {
  title: string;
  verb: string;
  name?: string;
  /** Something that may be done with it. */
  option?: { label: string };
  busy?: boolean;
  error?: unknown;
  /** What is still missing. */
  refusal?: string | undefined;
  onConfirm: (option: boolean) => void;
  onClose: () => void;
  children: ReactNode;
}) {
  const [typed, setTyped] = useState("");
  const [chosen, setChosen] = useState(false);
  const refusal =
    lacking ?? (name !== undefined && typed.trim() !== name ? `Type ${name} first.` : undefined);
  return (
    <FormDialog
      title={title}
      verb={verb}
      kind="danger"
      busy={busy ?? false}
      error={error}
      refusal={refusal}
      onSubmit={() => onConfirm(chosen)}
      onClose={onClose}
    >
      <div className="flex flex-col gap-2">{children}</div>
      {option && (
        <Check checked={chosen} onChange={(event) => setChosen(event.target.checked)}>
          {option.label}
        </Check>
      )}
      {name !== undefined && (
        <Text
          label={`Type ${name} to confirm`}
          autoFocus
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
        />
      )}
    </FormDialog>
  );
}
