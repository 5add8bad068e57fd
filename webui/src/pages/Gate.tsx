// The ways in: the first password of a new host, logging in, and logging in again where a session has ended.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { LogIn, ShieldCheck } from "lucide-react";
import { useEffect, useState, type FormEvent, type ReactNode } from "react";
import { ApiError, api, call, fieldFault } from "../api/client";
import { useRealms } from "../api/queries";
import { Dialog } from "../components/Dialog";
import { PasswordForm } from "../components/PasswordForm";
import { Button, Failure, Loading, Select, Text, cx } from "../components/ui";
import { MIN_PASSWORD } from "../lib/password";

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

interface Credentials {
  username: string;
  password: string;
  code?: string;
  realm?: string;
}

/** Away to a provider's page. It sends the browser back to `/oidc`. */
function useProviderPage() {
  return useMutation({
    mutationKey: ["session"],
    mutationFn: async (realm: string) => {
      const { url } = await call(api.POST("/session/oidc/start", { body: { realm } }));
      location.assign(url);
      // The page goes: nothing is to be pressed meanwhile.
      await new Promise(() => undefined);
    },
  });
}

/** Where providers with pages of their own send the browser back to. */
export const RETURN = "/oidc";

/** One code is asked about once, however often it is drawn. */
let returning: { address: string; answer: Promise<unknown> } | undefined;

function finish(address: string): Promise<unknown> {
  const search = new URLSearchParams(address);
  const get = (name: string) => search.get(name) ?? "";
  const refused = get("error");
  if (refused)
    // Only the word for it: an address can be made by anyone, and what it says would look like ours.
    return Promise.reject(
      new Error(
        `The provider refused${/^[a-z_]{1,40}$/.test(refused) ? `: ${refused.replaceAll("_", " ")}` : ""}.`,
      ),
    );
  const iss = search.get("iss");
  return call(
    api.POST("/session/oidc", {
      body: { code: get("code"), state: get("state"), ...(iss === null ? {} : { iss }) },
    }),
  );
}

/** Back from a provider's page. */
export function Returned() {
  const client = useQueryClient();
  const navigate = useNavigate();
  const [error, setError] = useState<unknown>();
  useEffect(() => {
    if (!returning || location.search) {
      returning = { address: location.search, answer: finish(location.search) };
      // Neither the code nor the state stays in the address or in the history.
      history.replaceState(history.state, "", RETURN);
    }
    let here = true;
    returning.answer.then(
      async () => {
        returning = undefined;
        // What was asked before the login was answered without it, and would stand in for what is asked now.
        await client.cancelQueries();
        await client.invalidateQueries();
        if (here) void navigate({ to: "/", search: {}, replace: true });
      },
      (why: unknown) => here && setError(why),
    );
    return () => {
      here = false;
    };
  }, [client, navigate]);
  const again = () => {
    returning = undefined;
    void navigate({ to: "/", search: {}, replace: true });
  };
  return (
    <Front title="LimiQuantix">
      {error === undefined ? (
        <Loading />
      ) : (
        <>
          <Failure error={error} />
          <Button kind="primary" onClick={again}>
            Back to the login
          </Button>
        </>
      )}
    </Front>
  );
}

/** The log-in form; asks for a one-time code where the host wants one. */
function LoginForm({ username, card }: { username: string; card?: boolean }) {
  const client = useQueryClient();
  const login = useMutation({
    mutationKey: ["session"],
    mutationFn: (body: Credentials) => call(api.POST("/session", { body })),
    onSuccess: () => client.invalidateQueries(),
  });
  const realms = useRealms().data ?? [];
  const withPassword = realms.filter(({ kind }) => kind === "password");
  const pages = realms.filter(({ kind }) => kind === "redirect");
  const [realm, setRealm] = useState("");
  const away = useProviderPage();
  const [second, setSecond] = useState(false);
  const wanted = login.error instanceof ApiError && login.error.problem.type.endsWith("/second-factor");
  if (wanted && !second) setSecond(true);
  return (
    <form
      className={cx("flex w-full flex-col gap-4", card && "card p-6")}
      onSubmit={(event) => {
        const get = entries(event);
        login.mutate({
          username: get("username"),
          password: get("password"),
          ...(get("code") ? { code: get("code").trim() } : {}),
          ...(realm ? { realm } : {}),
        });
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
      {withPassword.length > 1 && (
        <Select
          label="Realm"
          value={realm}
          none="By the name: user@realm, else this cluster"
          options={withPassword.map(({ name, title }) => [name, title] as const)}
          onValue={setRealm}
        />
      )}
      {second && (
        <Text
          label="One-time code"
          name="code"
          inputMode="numeric"
          autoComplete="one-time-code"
          required
          autoFocus
          hint="From your authenticator, or one of your recovery codes."
        />
      )}
      {!wanted && <Failure error={login.error} />}
      <Button type="submit" kind="primary" busy={login.isPending}>
        Log in
      </Button>
      {pages.map(({ name, title }) => (
        <Button
          key={name}
          icon={LogIn}
          busy={away.isPending && away.variables === name}
          onClick={() => away.mutate(name)}
        >
          Sign in with {title}
        </Button>
      ))}
      <Failure error={away.error} />
    </form>
  );
}

export function Login() {
  return (
    <Front title="LimiQuantix">
      <LoginForm username="admin" card />
    </Front>
  );
}

/** Over the page one was on, which stays as it is: nothing typed is lost. */
export function Relogin({ username }: { username: string }) {
  return (
    <Dialog title="Your session has ended">
      <p>It was not used for long, or somebody ended it. Log in to go on where you were.</p>
      <LoginForm username={username} />
    </Dialog>
  );
}

/** Somebody else set the password: nothing else is allowed before it is changed. */
export function FirstPassword() {
  const client = useQueryClient();
  return (
    <Front title="Set a new password">
      <p>Your password was set by somebody else. Choose one that only you know.</p>
      <div className="card w-full p-6">
        <PasswordForm onDone={() => void client.invalidateQueries({ queryKey: ["session"] })} />
      </div>
    </Front>
  );
}

export function Setup() {
  const client = useQueryClient();
  const [differ, setDiffer] = useState(false);
  const setup = useMutation({
    mutationKey: ["session"],
    mutationFn: (body: { code: string; password: string }) => call(api.POST("/setup", { body })),
    onSuccess: () => client.invalidateQueries({ queryKey: ["session"] }),
  });
  const fault = (name: string) => fieldFault(setup.error, name);
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
