// What a machine is and how it is, on one page.
import { Link } from "@tanstack/react-router";
import { Pencil } from "lucide-react";
import { useState } from "react";
import { api, call, type Vm } from "../../api/client";
import {
  queryClient,
  useHosts,
  useImages,
  useNames,
  useNetworks,
  useVmStats,
  useVolumes,
} from "../../api/queries";
import { EventList } from "../../components/EventList";
import { Labels } from "../../components/Labels";
import { Rename } from "../../components/Rename";
import { Button, Card, Fact, Facts, State } from "../../components/ui";
import { diskErrors } from "../../lib/diskErrors";
import { age, time } from "../../lib/format";
import { seenWith } from "../../lib/seen";
import { memoryWords } from "../../lib/memory";
import { WithVm } from "./Layout";
import { PlacementCard } from "./Placement";
import { useWriteRefusal } from "./save";

export const RESTART = {
  never: "stays stopped",
  "on-failure": "starts again on failure",
  always: "starts again always",
} as const;

/** What a TPM is good for, and what it costs. */
export const TPM_HINT =
  "Windows 11 needs one, and guests lock their disks by it. What it holds is lost with the machine. A machine with one is moved only while it is off.";

export const Summary = () => <WithVm>{(vm) => <SummaryOf vm={vm} />}</WithVm>;

function SummaryOf({ vm: { meta, spec, status }, vm }: { vm: Vm }) {
  const hosts = useHosts();
  const host = useNames(hosts);
  const network = useNames(useNetworks());
  const volume = useNames(useVolumes());
  const image = useNames(useImages());
  const [edit, setEdit] = useState(false);
  const denied = useWriteRefusal(vm);
  const runs = seenWith(hosts.data)(vm) === "running";
  const stats = useVmStats(meta.id, runs);
  const failed = runs ? diskErrors(vm, stats.data, volume) : [];
  return (
    <div className="grid gap-4 xl:grid-cols-2">
      <Card
        title="General"
        actions={
          <Button small icon={Pencil} refusal={denied} onClick={() => setEdit(true)}>
            Name and labels
          </Button>
        }
      >
        <Facts>
          <Fact name="State">
            <State state={seenWith(hosts.data)(vm)} />
          </Fact>
          <Fact name="Host">
            {status.host && (
              <Link className="link" to="/hosts/$id" params={{ id: status.host }}>
                {host(status.host) ?? status.host}
              </Link>
            )}
          </Fact>
          <Fact name="Addresses">{status.addresses?.join(", ")}</Fact>
          <Fact name="Running for">{status.started_at && runs && age(status.started_at)}</Fact>
          <Fact name="Restarts">{status.restarts || undefined}</Fact>
          <Fact name="Created">{time(meta.created_at)}</Fact>
          <Fact name="Labels">
            <Labels labels={meta.labels} />
          </Fact>
          <Fact name="Id">
            <code>{meta.id}</code>
          </Fact>
        </Facts>
      </Card>
      <Card
        title="Hardware"
        actions={
          <Link className="link text-sm" to="/vms/$id/hardware" params={{ id: meta.id }}>
            Change
          </Link>
        }
      >
        <Facts>
          <Fact name="CPUs">{spec.vcpus}</Fact>
          <Fact name="Memory">{memoryWords(vm)}</Fact>
          <Fact name="Disks">
            {spec.disks?.map((disk) => (
              <div key={disk.volume}>
                <Link className="link" to="/volumes" search={{ q: volume(disk.volume) }}>
                  {volume(disk.volume) ?? disk.volume}
                </Link>
                {disk.read_only && <span className="text-dim"> (read-only)</span>}
              </div>
            ))}
          </Fact>
          <Fact name="Disk errors">
            {failed.length > 0 && (
              <div className="text-bad">
                {failed.map((text) => (
                  <div key={text}>{text}</div>
                ))}
                <span className="text-dim">since it started: its guest had I/O errors</span>
              </div>
            )}
          </Fact>
          <Fact name="Interfaces">
            {spec.nics?.map((nic, n) => (
              <div key={n}>
                {network(nic.network) ?? nic.network} {nic.mac && <code className="text-dim">{nic.mac}</code>}
              </div>
            ))}
          </Fact>
          <Fact name="Boot">
            {spec.boot && (
              <>
                {image(spec.boot.kernel) ?? spec.boot.kernel}
                {spec.boot.initrd && <> + {image(spec.boot.initrd) ?? spec.boot.initrd}</>}
                {spec.boot.cmdline && <code className="block text-dim">{spec.boot.cmdline}</code>}
              </>
            )}
          </Fact>
          <Fact name="If it ends">{RESTART[spec.restart ?? "on-failure"]}</Fact>
          <Fact name="With its host">{spec.autostart === false ? "does not start" : "starts"}</Fact>
        </Facts>
      </Card>
      <PlacementCard vm={vm} />
      <Card title="Latest events">
        <EventList target={`vm/${meta.id}`} limit={8} />
      </Card>
      {edit && (
        <Rename
          object={vm}
          list="vms"
          work={async (body) => {
            const fresh = await call(
              api.PATCH("/vms/{id}", {
                params: { path: { id: meta.id } },
                headers: { "If-Match": `"${meta.revision}"` },
                body,
              }),
            );
            queryClient.setQueryData(["vm", meta.id], fresh);
          }}
          onClose={() => setEdit(false)}
        />
      )}
    </div>
  );
}
