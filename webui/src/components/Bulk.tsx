// Something done to many objects: the question, then a result for each.
import { CheckCircle2, CircleDashed, Loader2, XCircle } from "lucide-react";
import { useEffect, useRef, useState, type ReactNode } from "react";
import { each, type Result } from "../lib/bulk";
import { Dialog } from "./Dialog";
import { Button, Text } from "./ui";

export function Bulk<T>({
  title,
  verb,
  items,
  name,
  danger,
  refusal,
  doubt: lacking,
  work,
  onClose,
  children,
}: {
  title: string;
  verb: string;
  items: readonly T[];
  name: (item: T) => string;
  /** What is lost: the number of objects has to be typed. */
  danger?: boolean;
  /** Why an item will be left out. */
  refusal?: (item: T) => string | undefined;
  /** What is missing before any can be done. */
  doubt?: string | undefined;
  /** Ends when the item is done. */
  work: (item: T) => Promise<unknown>;
  onClose: () => void;
  children?: ReactNode;
}) {
  // Fixed at the moment of asking: what the list does meanwhile changes nothing.
  const [chosen] = useState(() => items.map((item) => ({ item, why: refusal?.(item) })));
  const can = chosen.filter(({ why }) => why === undefined).map(({ item }) => item);
  const cannot = chosen.filter(({ why }) => why !== undefined);
  const [typed, setTyped] = useState("");
  const [results, setResults] = useState<Result[]>();
  const [over, setOver] = useState(false);
  const stop = useRef(new AbortController());
  useEffect(() => {
    const ours = stop.current;
    return () => ours.abort();
  }, []);

  const go = () => {
    // React may have mounted, left and mounted again.
    if (stop.current.signal.aborted) stop.current = new AbortController();
    const all: Result[] = can.map(() => ({ state: "waiting" }));
    setResults([...all]);
    void each(
      can,
      work,
      (index, result) => {
        all[index] = result;
        setResults([...all]);
      },
      6,
      stop.current.signal,
    ).then(() => setOver(true));
  };
  const count = (state: Result["state"]) => results?.filter((result) => result.state === state).length ?? 0;
  const doubt =
    can.length === 0
      ? "None of the selected can be done."
      : danger && typed.trim() !== String(can.length)
        ? `Type ${can.length} first.`
        : lacking;

  return (
    <Dialog title={title} onClose={onClose} wide>
      {results === undefined ? (
        <form
          className="flex flex-col gap-4"
          onSubmit={(event) => {
            event.preventDefault();
            if (doubt === undefined) go();
          }}
        >
          {children}
          <ul
            className="max-h-60 overflow-auto rounded-md border border-line"
            tabIndex={0}
            aria-label="Selected"
          >
            {can.map((item) => (
              <li key={name(item)} className="border-line px-3 py-1 not-first:border-t">
                {name(item)}
              </li>
            ))}
            {cannot.map(({ item, why }) => (
              <li key={name(item)} className="border-line px-3 py-1 text-dim not-first:border-t">
                {name(item)}: left out. {why}
              </li>
            ))}
          </ul>
          {danger && can.length > 0 && (
            <Text
              label={`Type ${can.length} to confirm: so many are affected`}
              inputMode="numeric"
              autoFocus
              value={typed}
              onChange={(event) => setTyped(event.target.value)}
            />
          )}
          <div className="flex justify-end gap-2">
            <Button onClick={onClose}>Cancel</Button>
            <Button type="submit" kind={danger ? "danger" : "primary"} refusal={doubt} autoFocus={!danger}>
              {verb} {can.length}
            </Button>
          </div>
        </form>
      ) : (
        <>
          <p role="status">
            {over ? "Finished: " : "Under way: "}
            {count("done")} done, {count("failed")} failed
            {over
              ? count("waiting") > 0
                ? `, ${count("waiting")} not begun`
                : ""
              : `, ${can.length - count("done") - count("failed")} to go`}
            .
          </p>
          <ul
            className="max-h-90 overflow-auto rounded-md border border-line"
            tabIndex={0}
            aria-label="Results"
          >
            {can.map((item, n) => (
              <li key={name(item)} className="flex gap-2.5 border-line px-3 py-1.5 not-first:border-t">
                <ResultIcon result={results[n]!} />
                <span className="min-w-0 wrap-anywhere">
                  {name(item)}
                  {results[n]!.state === "failed" && (
                    <span className="block text-bad">{results[n]!.why}</span>
                  )}
                </span>
              </li>
            ))}
          </ul>
          <div className="flex justify-end gap-2">
            {!over && <Button onClick={() => stop.current.abort()}>Begin no more</Button>}
            <Button kind="primary" onClick={onClose}>
              Close
            </Button>
          </div>
        </>
      )}
    </Dialog>
  );
}

function ResultIcon({ result }: { result: Result }) {
  switch (result.state) {
    case "waiting":
      return <CircleDashed size={17} className="mt-0.5 flex-none text-dim" aria-label="waiting" />;
    case "running":
      return (
        <Loader2 size={17} className="mt-0.5 flex-none animate-spin text-accent" aria-label="under way" />
      );
    case "done":
      return <CheckCircle2 size={17} className="mt-0.5 flex-none text-good" aria-label="done" />;
    case "failed":
      return <XCircle size={17} className="mt-0.5 flex-none text-bad" aria-label="failed" />;
  }
}
