// The ways in: the first password of a new host, logging in, and logging in again where a session has ended.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { ShieldCheck } from "lucide-react";
import { useState, type FormEvent, type ReactNode } from "react";
import { ApiError, api, call } from "../api/client";
import { Dialog } from "../components/Dialog";
import { Button, Failure, Text } from "../components/ui";

function Front({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="mx-auto flex w-[min(26rem,100%-2rem)] flex-col items-center gap-4 py-[10vh]">
      <img src="/favicon.svg" alt="" width="52" height="52" />
      <h1 className="text-2xl font-semibold">{title}</h1>
      {children}
      <Certificate />
    </main>
  );
}

/** What the browser's warning is about, and what makes it safe to go on. */
function Certificate() {
  return (
    <details className="card w-full px-4 py-3 text-dim">
      <summary className="flex items-center gap-2 font-medium text-text">
        <ShieldCheck size={17} aria-hidden className="flex-none" /> Did your browser warn of the certificate?
      </summary>
      <p className="mt-2">
        A new host signs its own certificate, which no browser knows. Before you type a password, open the
        certificate in the browser (the sign before the address) and compare its SHA-256 fingerprint with the
        one on the host’s console. If they are the same, nobody is in between.
      </p>
    </details>
  );
}

/** The entries of a submitted form. */
function entries(event: FormEvent<HTMLFormElement>) {
  event.preventDefault();
  const data = new FormData(event.currentTarget);
  return (name: string) => String(data.get(name) ?? "");
}

function useLogin() {
  const client = useQueryClient();
  return useMutation({
    mutationKey: ["session"],
    mutationFn: (body: { username: string; password: string }) => call(api.POST("/session", { body })),
    onSuccess: () => client.invalidateQueries(),
  });
}

export function Login() {
  const login = useLogin();
  return (
    <Front title="LimiQuantix">
      <form
        className="card flex w-full flex-col gap-4 p-6"
        onSubmit={(event) => {
          const get = entries(event);
          login.mutate({ username: get("username"), password: get("password") });
        }}
      >
        <Text label="User" name="username" defaultValue="admin" autoComplete="username" required />
        <Text
          label="Password"
          name="password"
          type="password"
          autoComplete="current-password"
          required
          autoFocus
        />
        <Failure error={login.error} />
        <Button type="submit" kind="primary" busy={login.isPending}>
          Log in
        </Button>
      </form>
    </Front>
  );
}

/** Over the page one was on, which stays as it is: nothing typed is lost. */
export function Relogin({ username }: { username: string }) {
  const login = useLogin();
  return (
    <Dialog title="Your session has ended">
      <p>It was not used for long, or the management daemon was restarted. Log in to go on where you were.</p>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event) => {
          const get = entries(event);
          login.mutate({ username: get("username"), password: get("password") });
        }}
      >
        <Text label="User" name="username" defaultValue={username} autoComplete="username" required />
        <Text
          label="Password"
          name="password"
          type="password"
          autoComplete="current-password"
          required
          autoFocus
        />
        <Failure error={login.error} />
        <Button type="submit" kind="primary" busy={login.isPending}>
          Log in
        </Button>
      </form>
    </Dialog>
  );
}

export const MIN_PASSWORD = 8;

export function Setup() {
  const client = useQueryClient();
  const [differ, setDiffer] = useState(false);
  const setup = useMutation({
    mutationKey: ["session"],
    mutationFn: (body: { code: string; password: string }) => call(api.POST("/setup", { body })),
    onSuccess: () => client.invalidateQueries({ queryKey: ["session"] }),
  });
  const fault = (name: string) => (setup.error instanceof ApiError ? setup.error.field(name) : undefined);
  return (
    <Front title="Set up this host">
      <p>
        The host’s console shows a set-up code. It proves that you can see the machine. Choose the password of{" "}
        <strong>admin</strong>; from then on, the code is of no use to anyone.
      </p>
      <form
        className="card flex w-full flex-col gap-4 p-6"
        onSubmit={(event) => {
          const get = entries(event);
          const same = get("password") === get("again");
          setDiffer(!same);
          if (same) setup.mutate({ code: get("code").trim(), password: get("password") });
        }}
      >
        <input type="text" name="username" value="admin" autoComplete="username" readOnly hidden />
        <Text label="Set-up code" name="code" required autoFocus fault={fault("code")} />
        <Text
          label="New password"
          name="password"
          type="password"
          autoComplete="new-password"
          required
          minLength={MIN_PASSWORD}
          maxLength={256}
          hint={`At least ${MIN_PASSWORD} characters.`}
          fault={fault("password")}
        />
        <Text
          label="New password again"
          name="again"
          type="password"
          autoComplete="new-password"
          required
          fault={differ ? "The two passwords differ." : undefined}
        />
        <Failure error={setup.error} />
        <Button type="submit" kind="primary" busy={setup.isPending}>
          Set the password
        </Button>
      </form>
    </Front>
  );
}
