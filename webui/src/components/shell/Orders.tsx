// Orders under way: every task this page started is followed until it has ended, and its failure stays on the screen until it
// has been read. The task pane below shows everybody's tasks; this is about one's own.
import { useQueryClient } from "@tanstack/react-query";
import { CheckCircle2, Loader2, X, XCircle } from "lucide-react";
import { createContext, useCallback, useContext, useEffect, useState, type ReactNode } from "react";
import { words, type Task } from "../../api/client";
import { useTask } from "../../api/queries";

interface Note {
  id: number;
  label: string;
  task?: string;
  error?: string;
}

export type Follow = (label: string, what: Task | Error | "done") => void;
const Context = createContext<Follow>(() => {});
let count = 0;

/** Follows a task, says that something is done, or shows an error that has no other place. */
export const useFollow = () => useContext(Context);

/** The newest are of interest; a page left open for days does not collect all of them. */
const KEPT = 5;
/** Success goes by itself, in milliseconds. */
const GOES = 5000;

export function Orders({ children }: { children: ReactNode }) {
  const [notes, setNotes] = useState<Note[]>([]);
  const client = useQueryClient();
  const follow = useCallback<Follow>(
    (label, what) => {
      const id = (count += 1);
      const note: Note =
        what === "done"
          ? { id, label }
          : what instanceof Error
            ? { id, label, error: words(what) }
            : { id, label, task: what.id };
      setNotes((all) => [...all.slice(1 - KEPT), note]);
      void client.invalidateQueries({ queryKey: ["tasks"] });
    },
    [client],
  );
  const dismiss = useCallback((id: number) => setNotes((all) => all.filter((note) => note.id !== id)), []);
  return (
    <Context value={follow}>
      {children}
      <section
        className="pointer-events-none fixed right-4 bottom-14 z-30 flex w-[min(24rem,100vw-2rem)] flex-col gap-2"
        aria-label="Notices"
        aria-live="polite"
      >
        {notes.map((note) =>
          note.task ? (
            <Followed key={note.id} note={note} task={note.task} dismiss={dismiss} />
          ) : (
            <Toast
              key={note.id}
              note={note}
              state={note.error === undefined ? "succeeded" : "failed"}
              dismiss={dismiss}
            >
              {note.error}
            </Toast>
          ),
        )}
      </section>
    </Context>
  );
}

function Followed({ note, task: id, dismiss }: { note: Note; task: string; dismiss: (id: number) => void }) {
  const { data: task, error } = useTask(id);
  return (
    <Toast note={note} state={error ? "failed" : (task?.state ?? "running")} dismiss={dismiss}>
      {error ? words(error) : task?.message}
    </Toast>
  );
}

const WORDS: Record<Task["state"], string> = {
  running: " …",
  succeeded: ": done",
  failed: ": failed",
  cancelled: ": cancelled",
};

function Toast({
  note,
  state,
  dismiss,
  children,
}: {
  note: Note;
  state: Task["state"];
  dismiss: (id: number) => void;
  children?: ReactNode;
}) {
  useEffect(() => {
    if (state === "running" || state === "failed") return;
    const timer = setTimeout(() => dismiss(note.id), GOES);
    return () => clearTimeout(timer);
  }, [state, note.id, dismiss]);
  return (
    <div className="pointer-events-auto flex gap-3 rounded-lg border border-line bg-raised px-4 py-3 shadow-xl">
      {state === "running" && (
        <Loader2 size={18} aria-hidden className="mt-0.5 flex-none animate-spin text-accent" />
      )}
      {state === "succeeded" && <CheckCircle2 size={18} aria-hidden className="mt-0.5 flex-none text-good" />}
      {(state === "failed" || state === "cancelled") && (
        <XCircle size={18} aria-hidden className="mt-0.5 flex-none text-bad" />
      )}
      <div className="min-w-0 flex-1 wrap-anywhere">
        <strong className="font-medium">
          {note.label}
          {WORDS[state]}
        </strong>
        {children && <div className="text-dim">{children}</div>}
      </div>
      <button
        type="button"
        className="min-h-0! self-start rounded p-1 text-dim hover:bg-sunken hover:text-text"
        aria-label={`Dismiss: ${note.label}`}
        onClick={() => dismiss(note.id)}
      >
        <X size={15} aria-hidden />
      </button>
    </div>
  );
}
