// One machine: what it is, how it is, its console.
import { Suspense, lazy } from "react";
import { ApiError } from "../api/client";
import { useHosts, useNetworks, useVm } from "../api/queries";
import { VmActions } from "../components/VmActions";
import { Failure, Loading, State } from "../components/ui";
import { age, bytes, time } from "../lib/format";
import { go, href } from "../lib/router";

// The terminal is as large as the rest of the page together: loaded when it is looked at.
const Console = lazy(() => import("../components/Console"));

export function VmPage({ id }: { id: string }) {
  const vm = useVm(id);
  const hosts = useHosts();
  const networks = useNetworks();
  if (vm.error instanceof ApiError && vm.error.problem.status === 404)
    return (
      <div className="empty">
        <p>This machine does not exist any more.</p>
        <a href={href({ page: "vms" })}>All machines</a>
      </div>
    );
  if (!vm.data)
    return (
      <>
        <Failure error={vm.error} />
        {vm.isPending && <Loading />}
      </>
    );
  const { meta, spec, status } = vm.data;
  const host = hosts.data?.find((each) => each.meta.id === status.host)?.meta.name;
  const network = (wanted: string) =>
    networks.data?.find((each) => each.meta.id === wanted)?.meta.name ?? wanted;
  return (
    <>
      <p className="crumbs">
        <a href={href({ page: "vms" })}>Machines</a>
      </p>
      <div className="heading">
        <h1>{meta.name}</h1>
        <State state={status.state} />
        <span className="space" />
        <VmActions vm={vm.data} onDeleted={() => go({ page: "vms" })} />
      </div>
      <Failure error={vm.error} />
      {status.reason && (
        <p className={status.state === "failed" ? "failure" : "warning"} role="status">
          {status.reason}
        </p>
      )}
      <dl className="facts">
        <Fact name="Host">{host}</Fact>
        <Fact name="CPUs">{spec.vcpus}</Fact>
        <Fact name="Memory">{bytes(spec.memory_bytes)}</Fact>
        <Fact name="Addresses">{status.addresses?.join(", ")}</Fact>
        <Fact name="Running for">
          {status.started_at && status.state !== "stopped" && age(status.started_at)}
        </Fact>
        <Fact name="Restarts">{status.restarts || undefined}</Fact>
        <Fact name="Disks">{spec.disks?.length}</Fact>
        <Fact name="Interfaces">
          {spec.nics?.map((nic, n) => (
            <span key={n} className="line">
              {network(nic.network)} {nic.mac && <code>{nic.mac}</code>}
            </span>
          ))}
        </Fact>
        <Fact name="If it ends by itself">
          {spec.restart === "never"
            ? "stays stopped"
            : spec.restart === "always"
              ? "starts again"
              : "starts again on failure"}
        </Fact>
        <Fact name="With its host">{spec.autostart === false ? "does not start" : "starts"}</Fact>
        <Fact name="Command line">{spec.boot?.cmdline && <code>{spec.boot.cmdline}</code>}</Fact>
        <Fact name="Created">{time(meta.created_at)}</Fact>
      </dl>
      <Suspense fallback={<Loading />}>
        <Console vm={id} name={meta.name} />
      </Suspense>
    </>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  if (children === undefined || children === null || children === false || children === "") return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
