// Logging in with a one-time code too (TOTP): shown to the authenticator, confirmed by a first code, taken away by password.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { ShieldCheck, ShieldOff } from "lucide-react";
import { useState } from "react";
import { api, call, fieldFault } from "../../api/client";
import { useAccess } from "../../api/queries";
import { Dialog, FormDialog } from "../../components/Dialog";
import { Qr } from "../../components/Qr";
import { Button, Card, Text } from "../../components/ui";

export function SecondFactor() {
  const access = useAccess();
  const identity = access.data && "identity" in access.data ? access.data.identity : undefined;
  const [doing, setDoing] = useState<"enrol" | "remove">();
  const close = () => setDoing(undefined);
  return (
    <Card title="Second factor">
      {identity?.totp ? (
        <div className="flex flex-wrap items-center gap-3">
          <ShieldCheck size={18} className="text-good" aria-hidden />
          <span>Logging in asks for a one-time code.</span>
          <Button small icon={ShieldOff} className="ml-auto" onClick={() => setDoing("remove")}>
            Switch off
          </Button>
        </div>
      ) : (
        <div className="flex flex-wrap items-center gap-3">
          <span>Your password alone opens your account.</span>
          <Button
            small
            icon={ShieldCheck}
            className="ml-auto"
            refusal={identity?.has_password === false ? "Your account is kept elsewhere." : undefined}
            onClick={() => setDoing("enrol")}
          >
            Set up one-time codes
          </Button>
        </div>
      )}
      {doing === "enrol" && <Enrol onClose={close} />}
      {doing === "remove" && <Remove onClose={close} />}
    </Card>
  );
}

function Enrol({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const [code, setCode] = useState("");
  const [password, setPassword] = useState("");
  const offer = useMutation({ mutationFn: () => call(api.POST("/session/totp", { body: { password } })) });
  const confirm = useMutation({
    mutationKey: ["session"],
    mutationFn: () => call(api.POST("/session/totp/confirm", { body: { code: code.trim() } })),
    onSuccess: () => client.invalidateQueries({ queryKey: ["session"] }),
  });
  if (confirm.data)
    return (
      <Dialog title="Recovery codes" onClose={onClose}>
        <p>
          One-time codes are on. Should you lose the authenticator, each of these works <strong>once</strong>.
          They are shown <strong>only now</strong>: keep them where it is not.
        </p>
        <ul
          className="grid grid-cols-2 gap-1 rounded-md bg-sunken p-3 font-mono select-all"
          aria-label="Recovery codes"
        >
          {confirm.data.codes.map((each) => (
            <li key={each}>{each}</li>
          ))}
        </ul>
        <div className="flex justify-end">
          <Button kind="primary" onClick={onClose}>
            I have kept them
          </Button>
        </div>
      </Dialog>
    );
  if (!offer.data)
    return (
      <FormDialog
        title="Set up one-time codes"
        verb="Show the code"
        busy={offer.isPending}
        error={offer.error}
        refusal={password ? undefined : "Type your password first."}
        onSubmit={() => offer.mutate()}
        onClose={onClose}
      >
        <p>
          You need an authenticator on your phone or in your password manager. It is shown a picture now, and
          gives a new code every 30 seconds from then on.
        </p>
        <Text
          label="Your password"
          type="password"
          autoComplete="current-password"
          value={password}
          fault={fieldFault(offer.error, "password")}
          onChange={(event) => setPassword(event.target.value)}
        />
      </FormDialog>
    );
  return (
    <FormDialog
      title="Set up one-time codes"
      verb="Confirm"
      busy={confirm.isPending}
      error={confirm.error}
      refusal={code.trim() ? undefined : "Type the code first."}
      onSubmit={() => confirm.mutate()}
      onClose={onClose}
    >
      <div className="flex flex-wrap gap-4">
        <Qr text={offer.data.url} label="Code for your authenticator" />
        <div className="min-w-40 flex-1">
          <p>Let your authenticator read the picture, or type this secret into it:</p>
          <code className="mt-2 block rounded-md bg-sunken p-2 select-all">{offer.data.secret}</code>
        </div>
      </div>
      <Text
        label="The code it shows now"
        inputMode="numeric"
        autoComplete="one-time-code"
        value={code}
        fault={fieldFault(confirm.error, "code")}
        onChange={(event) => setCode(event.target.value)}
      />
    </FormDialog>
  );
}

function Remove({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const [password, setPassword] = useState("");
  const remove = useMutation({
    mutationKey: ["session"],
    mutationFn: () => call(api.POST("/session/totp/remove", { body: { password } })),
    onSuccess: () => {
      void client.invalidateQueries({ queryKey: ["session"] });
      onClose();
    },
  });
  return (
    <FormDialog
      title="Switch one-time codes off?"
      verb="Switch off"
      kind="danger"
      busy={remove.isPending}
      error={remove.error}
      refusal={password ? undefined : "Type your password first."}
      onSubmit={() => remove.mutate()}
      onClose={onClose}
    >
      <p>From then on your password alone opens your account.</p>
      <Text
        label="Your password"
        type="password"
        autoComplete="current-password"
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
    </FormDialog>
  );
}
