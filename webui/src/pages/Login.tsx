// The two ways in: the first password of a new host, and logging in.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent, type ReactNode } from "react";
import { ApiError, api, call } from "../api/client";
import { Button, Failure, Text } from "../components/ui";

function Card({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="gate">
      <img src="/favicon.svg" alt="" width="48" height="48" />
      <h1>{title}</h1>
      {children}
    </main>
  );
}

/** The entries of a submitted form. */
function entries(event: FormEvent<HTMLFormElement>) {
  event.preventDefault();
  const data = new FormData(event.currentTarget);
  return (name: string) => String(data.get(name) ?? "");
}

export function Login() {
  const client = useQueryClient();
  const login = useMutation({
    mutationFn: (body: { username: string; password: string }) => call(api.POST("/session", { body })),
    onSuccess: () => client.invalidateQueries({ queryKey: ["session"] }),
  });
  return (
    <Card title="LimiQuantix">
      <form
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
        <Button type="submit" kind="primary" className="wide" disabled={login.isPending}>
          {login.isPending ? "Logging in …" : "Log in"}
        </Button>
      </form>
    </Card>
  );
}

const MIN_PASSWORD = 8;

export function Setup() {
  const client = useQueryClient();
  const [differ, setDiffer] = useState(false);
  const setup = useMutation({
    mutationFn: (body: { code: string; password: string }) => call(api.POST("/setup", { body })),
    onSuccess: () => client.invalidateQueries({ queryKey: ["session"] }),
  });
  const fault = (name: string) => (setup.error instanceof ApiError ? setup.error.field(name) : undefined);
  return (
    <Card title="Set up this host">
      <p>
        The host's console shows a set-up code. It proves that you can see the machine. Choose the password of{" "}
        <strong>admin</strong>; from then on, the code is of no use to anyone.
      </p>
      <form
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
        <Button type="submit" kind="primary" className="wide" disabled={setup.isPending}>
          {setup.isPending ? "Setting up …" : "Set the password"}
        </Button>
      </form>
    </Card>
  );
}
