// Words in a row that may be longer than their column: pressed, they are shown whole, with what belongs to them. A tooltip
// alone is out of reach of a finger and of the keyboard.
import { useState, type ReactNode } from "react";
import { createPortal } from "react-dom";
import { Dialog } from "./Dialog";
import { Fact, Facts } from "./ui";

export function Words({
  text,
  title,
  facts,
  children,
}: {
  text: string;
  /** Of the dialog. */
  title: string;
  facts: readonly (readonly [name: string, value: ReactNode])[];
  /** What the row shows; the words themselves where absent. */
  children?: ReactNode;
}) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button
        type="button"
        title={text}
        className="block min-h-0! w-full overflow-hidden text-left text-ellipsis whitespace-nowrap hover:underline"
        onClick={() => setOpen(true)}
      >
        {children ?? text}
      </button>
      {open &&
        // Out of the row: what a row says of its text would hold in the dialog too.
        createPortal(
          <Dialog title={title} onClose={() => setOpen(false)}>
            <p className="whitespace-pre-line wrap-anywhere">{text}</p>
            <Facts>
              {facts.map(([name, value]) => (
                <Fact key={name} name={name}>
                  {value}
                </Fact>
              ))}
            </Facts>
          </Dialog>,
          document.body,
        )}
    </>
  );
}
