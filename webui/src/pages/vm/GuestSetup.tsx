// Fields for what a guest sets itself up by, shared by the wizard and the machine's own page.
import { Select, TextArea, Text } from "../../components/ui";
import type { Setup } from "../../lib/cloud";

const WAYS = [
  ["none", "Not at all"],
  ["user", "A user with SSH keys"],
  ["own", "My own cloud-init data"],
] as const;

export function GuestSetup({
  setup,
  faults,
  onChange,
}: {
  setup: Setup;
  faults: Partial<Record<keyof Setup, string>>;
  onChange: (setup: Setup) => void;
}) {
  const text = (field: "user" | "keys" | "userData" | "networkConfig") => ({
    value: setup[field],
    fault: faults[field],
    onChange: (event: { target: { value: string } }) => onChange({ ...setup, [field]: event.target.value }),
  });
  return (
    <>
      <Select
        label="Set up by cloud-init"
        value={setup.way}
        options={WAYS}
        hint="For images with cloud-init: read at the first start, and again when it has changed."
        onValue={(way) => onChange({ ...setup, way: way as Setup["way"] })}
      />
      {setup.way === "user" && (
        <>
          <Text label="User" hint="May do everything by sudo." {...text("user")} />
          <TextArea
            label="SSH public keys"
            rows={3}
            hint="One a line, as in ~/.ssh/id_ed25519.pub."
            {...text("keys")}
          />
        </>
      )}
      {setup.way === "own" && (
        <TextArea
          label="User data"
          rows={10}
          hint="Begins with #cloud-config or #!. Whoever may see the machine can read it: no passwords in the clear."
          {...text("userData")}
        />
      )}
      {setup.way !== "none" && (
        <TextArea
          label="Network configuration"
          rows={3}
          hint="Empty: addresses by DHCP. Else cloud-init's YAML, version 1 or 2."
          {...text("networkConfig")}
        />
      )}
    </>
  );
}
