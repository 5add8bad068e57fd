// Every machine, with what can be done to it.
import { useState } from "react";
import { useHosts, useVms } from "../api/queries";
import { VmActions } from "../components/VmActions";
import { Failure, Loading, State } from "../components/ui";
import { bytes } from "../lib/format";
import { href } from "../lib/router";

export function Vms() {
  const vms = useVms();
  const hosts = useHosts();
  const [filter, setFilter] = useState("");
  const host = (id: string | null | undefined) => hosts.data?.find((each) => each.meta.id === id)?.meta.name;

  const wanted = filter.trim().toLowerCase();
  const shown = vms.data
    ?.filter(({ meta, status }) =>
      [meta.name, status.state, ...(status.addresses ?? [])].some((text) =>
        text.toLowerCase().includes(wanted),
      ),
    )
    .sort((a, b) => a.meta.name.localeCompare(b.meta.name, undefined, { numeric: true }));

  return (
    <>
      <div className="heading">
        <h1>Machines</h1>
        {vms.data && vms.data.length > 0 && (
          <input
            type="search"
            aria-label="Filter by name, state or address"
            placeholder="Filter"
            value={filter}
            onChange={(event) => setFilter(event.target.value)}
          />
        )}
        <a className="button primary" href={href({ page: "create-vm" })}>
          Create machine
        </a>
      </div>
      <Failure error={vms.error} />
      {vms.isPending && <Loading />}
      {vms.data?.length === 0 && (
        <div className="empty">
          <p>There is no machine yet.</p>
          <p className="dim">
            Upload a disk image under <a href={href({ page: "images" })}>Images</a>, then create a machine
            from it.
          </p>
        </div>
      )}
      {shown && vms.data!.length > 0 && (
        <table role="table">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">State</th>
              <th scope="col">Host</th>
              <th scope="col" className="number">
                CPUs
              </th>
              <th scope="col" className="number">
                Memory
              </th>
              <th scope="col">Address</th>
              <th scope="col">
                <span className="hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {shown.map((vm) => (
              <tr key={vm.meta.id}>
                <th scope="row" data-label="Name">
                  <a href={href({ page: "vm", id: vm.meta.id })}>{vm.meta.name}</a>
                </th>
                <td data-label="State">
                  <span>
                    <State state={vm.status.state} />
                    {vm.status.reason && <span className="reason">{vm.status.reason}</span>}
                  </span>
                </td>
                <td data-label="Host">{host(vm.status.host) ?? "–"}</td>
                <td data-label="CPUs" className="number">
                  {vm.spec.vcpus}
                </td>
                <td data-label="Memory" className="number">
                  {bytes(vm.spec.memory_bytes)}
                </td>
                <td data-label="Address">{vm.status.addresses?.join(", ") || "–"}</td>
                <td className="actions">
                  <VmActions vm={vm} />
                </td>
              </tr>
            ))}
            {shown.length === 0 && (
              <tr>
                <td colSpan={7} className="dim">
                  No machine matches “{filter}”.
                </td>
              </tr>
            )}
          </tbody>
        </table>
      )}
    </>
  );
}
