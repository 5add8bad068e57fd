// One machine: its head and tabs; the tab's page is inside.
import { Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { MonitorCog } from "lucide-react";
import type { Vm } from "../../api/client";
import { useHosts, useNames, useTasks, useVm } from "../../api/queries";
import { Await, Head, Tabs } from "../../components/Page";
import { Cancel, TaskState } from "../../components/shell/TaskPane";
import { Failure, State, Warning } from "../../components/ui";
import { moveOf } from "../../lib/moves";
import { hasScreen } from "../../lib/screen";
import { seenWith, unknownBecause } from "../../lib/seen";
import { VmButtons, VmOrders } from "./actions";

const SCREEN = "/vms/$id/screen";
const TABS = [
  { to: "/vms/$id", label: "Summary" },
  { to: SCREEN, label: "Screen" },
  { to: "/vms/$id/console", label: "Serial console" },
  { to: "/vms/$id/performance", label: "Performance" },
  { to: "/vms/$id/hardware", label: "Hardware" },
  { to: "/vms/$id/networks", label: "Networks" },
  { to: "/vms/$id/events", label: "Tasks and events" },
];

export const useVmId = () => (useParams({ strict: false }) as { id: string }).id;

/** The machine of this page. */
export function WithVm({ children }: { children: (vm: Vm) => React.ReactNode }) {
  const vm = useVm(useVmId());
  return vm.data ? children(vm.data) : null;
}

/** That it is on its way, how far, and the way back. */
function Moves({ vm, to }: { vm: Vm; to: string }) {
  const host = useNames(useHosts());
  const task = moveOf(vm, useTasks().data);
  return (
    <div
      className="flex flex-wrap items-center gap-x-4 gap-y-1 rounded-md bg-sunken px-4 py-2.5"
      role="status"
    >
      <span>It is moving to {host(to) ?? "another host"}.</span>
      {task && <TaskState task={task} />}
      {task && <Cancel task={task} />}
    </div>
  );
}

export function VmLayout() {
  const id = useVmId();
  const vm = useVm(id);
  const seen = seenWith(useHosts().data);
  const navigate = useNavigate();
  return (
    <Await
      query={vm}
      icon={MonitorCog}
      gone={{
        title: "This virtual machine does not exist any more.",
        to: "/vms",
        label: "All virtual machines",
      }}
    >
      {(data) => (
        <VmOrders onDeleted={() => void navigate({ to: "/vms" })}>
          <Head
            title={data.meta.name}
            icon={MonitorCog}
            up={{ to: "/vms", label: "Virtual machines" }}
            beside={<State state={seen(data)} />}
          >
            <VmButtons vm={data} />
          </Head>
          <Tabs
            label="Pages of this machine"
            id={id}
            tabs={hasScreen(data) ? TABS : TABS.filter(({ to }) => to !== SCREEN)}
          />
          <div className="flex min-h-0 flex-1 flex-col gap-4">
            {Boolean(vm.error) && <Failure error={vm.error} />}
            {seen(data) === "unknown" && <Warning>{unknownBecause(data)}</Warning>}
            {data.status.moving_to && <Moves vm={data} to={data.status.moving_to} />}
            {data.status.reason &&
              (data.status.state === "failed" ? (
                <p className="rounded-md bg-bad-soft px-4 py-2.5 wrap-anywhere text-bad" role="status">
                  {data.status.reason}
                </p>
              ) : (
                <Warning>{data.status.reason}</Warning>
              ))}
            <Outlet />
          </div>
        </VmOrders>
      )}
    </Await>
  );
}
