// Text typed into the guest as if by keyboard.
import { useState } from "react";
import { FormDialog } from "./Dialog";
import { Check, Field } from "./ui";

export function Paste({ onPaste, onClose }: { onPaste: (text: string) => void; onClose: () => void }) {
  const [text, setText] = useState("");
  const [enter, setEnter] = useState(true);
  return (
    <FormDialog
      title="Paste as typing"
      verb="Type it"
      refusal={text ? undefined : "Write or paste something first."}
      onSubmit={() => onPaste(text.replace(/\r?\n/g, "\r") + (enter ? "\r" : ""))}
      onClose={onClose}
    >
      <Field label="Text" hint="Every line end is sent as Enter.">
        {(props) => (
          <textarea
            {...props}
            rows={6}
            spellCheck={false}
            className="input font-mono"
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        )}
      </Field>
      <Check checked={enter} onChange={(event) => setEnter(event.target.checked)}>
        Press Enter at the end
      </Check>
    </FormDialog>
  );
}
