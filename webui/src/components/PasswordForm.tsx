// Changing one's own password.
import { useMutation } from "@tanstack/react-query";
import { KeyRound } from "lucide-react";
import { useState, type FormEvent } from "react";
import { api, call, fieldFault } from "../api/client";
import { MIN_PASSWORD } from "../lib/password";
import { Button, Failure, Text } from "./ui";

export function PasswordForm({ onDone }: { onDone: () => void }) {
  const [differ, setDiffer] = useState(false);
  const change = useMutation({
    mutationKey: ["session"],
    mutationFn: (body: { old: string; new: string }) => call(api.POST("/session/password", { body })),
    onSuccess: onDone,
  });
  const fault = (name: string) => fieldFault(change.error, name);
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const data = new FormData(form);
    const get = (name: string) => String(data.get(name) ?? "");
    const same = get("new") === get("again");
    setDiffer(!same);
    if (same) change.mutate({ old: get("old"), new: get("new") }, { onSuccess: () => form.reset() });
  };
  return (
    <form className="flex flex-col gap-4" onSubmit={submit}>
      <Text
        label="Present password"
        name="old"
        type="password"
        autoComplete="current-password"
        required
        fault={fault("old")}
      />
      <Text
        label="New password"
        name="new"
        type="password"
        autoComplete="new-password"
        required
        minLength={MIN_PASSWORD}
        maxLength={256}
        hint={`At least ${MIN_PASSWORD} characters.`}
        fault={fault("new")}
      />
      <Text
        label="New password again"
        name="again"
        type="password"
        autoComplete="new-password"
        required
        fault={differ ? "The two passwords differ." : undefined}
      />
      <Failure error={change.error} />
      <div>
        <Button type="submit" kind="primary" icon={KeyRound} busy={change.isPending}>
          Change the password
        </Button>
      </div>
    </form>
  );
}
