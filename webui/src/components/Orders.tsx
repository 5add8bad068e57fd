// Orders under way: every task this page started is followed here until it has ended, and its failure stays until it
// has been read.
import { useQueryClient } from "@tanstack/react-query";
import { createContext, useCallback, useContext, useEffect, useState, type ReactNode } from "react";
import { words, type Task } from "../api/client";
import { useTask } from "../api/queries";

interface Note {
  id: string;
  label: string;
  task?: string;
  error?: string;
}

type Follow = (label: string, what: Task | Error) => void;
const Context = createContext<Follow>(() => {});

/** Follows a task, or shows an error that has no other place. */
export const useFollow = () => useContext(Context);

export function Orders({ children }: { children: ReactNode }) {
  const [notes, setNotes] = useState<Note[]>([]);
  const follow = useCallback<Follow>((label, what) => {
    const id = crypto.randomUUID();
    const note = what instanceof Error ? { id, label, error: words(what) } : { id, label, task: what.id };
    // The newest are of interest; a page left open for days does not collect all of them.
    setNotes((all) => [...all.slice(-4), note]);
  }, []);
  const dismiss = useCallback((id: string) => setNotes((all) => all.filter((note) => note.id !== id)), []);
  return (
    <Context value={follow}>
      {children}
      <section className="toasts" aria-label="Orders" aria-live="polite">
        {notes.map((note) =>
          note.task ? (
            <Followed key={note.id} label={note.label} task={note.task} dismiss={() => dismiss(note.id)} />
          ) : (
            <Toast key={note.id} state="failed" label={note.label} dismiss={() => dismiss(note.id)}>
              {note.error}
            </Toast>
          ),
        )}
      </section>
    </Context>
  );
}

function Followed({ label, task: id, dismiss }: { label: string; task: string; dismiss: () => void }) {
  const { data: task, error } = useTask(id);
  const client = useQueryClient();
  const state = task?.state ?? "running";
  useEffect(() => {
    if (state === "running") return;
    void client.invalidateQueries({ queryKey: ["vms"] });
    if (state === "failed") return;
    const timer = setTimeout(dismiss, 4000);
    return () => clearTimeout(timer);
    // `dismiss` is made anew at every drawing; the timer belongs to the state alone.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [state]);
  return (
    <Toast state={state} label={label} dismiss={dismiss}>
      {error ? words(error) : task?.message}
      {state === "running" && (
        <progress
          {...(typeof task?.progress === "number" ? { value: task.progress } : {})}
          aria-label={label}
        />
      )}
    </Toast>
  );
}

const WORDS: Record<Task["state"], string> = {
  running: "…",
  succeeded: ": done",
  failed: ": failed",
  cancelled: ": cancelled",
};

function Toast({
  state,
  label,
  dismiss,
  children,
}: {
  state: Task["state"];
  label: string;
  dismiss: () => void;
  children?: ReactNode;
}) {
  return (
    <div className={`toast ${state}`}>
      <div>
        <strong>
          {label}
          {WORDS[state]}
        </strong>
        {children && <div className="said">{children}</div>}
      </div>
      <button type="button" className="close" aria-label={`Dismiss: ${label}`} onClick={dismiss}>
        ×
      </button>
    </div>
  );
}
