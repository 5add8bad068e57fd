// The frame around the pages: who may see what, where one can go, and what the hosts warn of.
import { Component, useEffect, type ReactNode } from "react";
import { api, call, words } from "./api/client";
import { queryClient, useAccess, useHosts, useLive } from "./api/queries";
import { Orders } from "./components/Orders";
import { Button, Failure } from "./components/ui";
import { href, useRoute, type Route } from "./lib/router";
import { Activity } from "./pages/Activity";
import { CreateVm } from "./pages/CreateVm";
import { Images } from "./pages/Images";
import { Login, Setup } from "./pages/Login";
import { VmPage } from "./pages/Vm";
import { Vms } from "./pages/Vms";

export function App() {
  const access = useAccess();
  if (access.isPending) return <Gate>Connecting …</Gate>;
  if (!access.data)
    return (
      <Gate>
        <Failure error={access.error}>
          <Button onClick={() => void access.refetch()}>Try again</Button>
        </Failure>
      </Gate>
    );
  switch (access.data.state) {
    case "setup":
      return <Setup />;
    case "out":
      return <Login />;
    case "in":
      return (
        <Orders>
          <Frame user={access.data.identity.username} />
        </Orders>
      );
  }
}

function Gate({ children }: { children: ReactNode }) {
  return (
    <main className="gate" role="status">
      {children}
    </main>
  );
}

const NAVIGATION: { label: string; route: Route; pages: Route["page"][] }[] = [
  { label: "Machines", route: { page: "vms" }, pages: ["vms", "vm", "create-vm"] },
  { label: "Images", route: { page: "images" }, pages: ["images"] },
  { label: "Activity", route: { page: "activity" }, pages: ["activity"] },
];

function Frame({ user }: { user: string }) {
  useLive();
  const route = useRoute();
  const hosts = useHosts();
  const host = hosts.data?.[0]?.meta.name;
  const id = route.page === "vm" ? route.id : undefined;
  useEffect(() => {
    document.title = host ? `${host} · LimiQuantix` : "LimiQuantix";
  }, [host]);
  useEffect(() => {
    scrollTo(0, 0);
  }, [route.page, id]);
  return (
    <>
      <a
        className="skip"
        href="#main"
        onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}
      >
        Skip to content
      </a>
      <header className="bar">
        <span className="brand">
          <img src="/favicon.svg" alt="" width="24" height="24" />
          <span>{host ?? "LimiQuantix"}</span>
        </span>
        <nav aria-label="Pages">
          {NAVIGATION.map(({ label, route: to, pages }) => (
            <a key={label} href={href(to)} aria-current={pages.includes(route.page) ? "page" : undefined}>
              {label}
            </a>
          ))}
        </nav>
        <span className="user">
          <span className="dim">{user}</span>
          <Button onClick={() => void logout()}>Log out</Button>
        </span>
      </header>
      <main id="main" tabIndex={-1}>
        {hosts.data?.map((each) =>
          each.status?.warnings?.map((warning) => (
            <p key={each.meta.id + warning} className="warning" role="status">
              <strong>{each.meta.name}</strong> {warning}
            </p>
          )),
        )}
        <Guard key={JSON.stringify(route)}>
          <Page route={route} />
        </Guard>
      </main>
    </>
  );
}

function Page({ route }: { route: Route }) {
  switch (route.page) {
    case "vms":
      return <Vms />;
    case "create-vm":
      return <CreateVm />;
    case "vm":
      return <VmPage id={route.id} />;
    case "images":
      return <Images />;
    case "activity":
      return <Activity />;
  }
}

async function logout() {
  await call(api.DELETE("/session")).catch(() => undefined);
  // Whatever the host said: this page forgets what it knew. First the pages go, so that none of them asks again.
  queryClient.setQueryData(["session"], { state: "out" });
  queryClient.removeQueries({ predicate: (query) => query.queryKey[0] !== "session" });
}

/** A fault of ours in one page leaves the others usable. */
class Guard extends Component<{ children: ReactNode }, { error?: unknown }> {
  override state: { error?: unknown } = {};
  static getDerivedStateFromError(error: unknown) {
    return { error };
  }
  override render() {
    if (this.state.error === undefined) return this.props.children;
    return (
      <div className="failure" role="alert">
        <strong>This page has a fault.</strong>
        <p>{words(this.state.error)}</p>
        <Button onClick={() => location.reload()}>Load it again</Button>
      </div>
    );
  }
}
