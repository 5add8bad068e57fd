// The end of a dialog that shows a secret for the only time: copy it, and close.
import { Copy } from "lucide-react";
import { useState } from "react";
import { Button } from "./ui";

export function CopyOnce({ text, onClose }: { text: string; onClose: () => void }) {
  const [copied, setCopied] = useState(false);
  return (
    <div className="flex justify-end gap-2">
      <Button
        icon={Copy}
        onClick={() => void navigator.clipboard.writeText(text).then(() => setCopied(true))}
      >
        {copied ? "Copied" : "Copy"}
      </Button>
      <Button kind="primary" onClick={onClose}>
        Close
      </Button>
    </div>
  );
}
