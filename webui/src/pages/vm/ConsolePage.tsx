// The serial console and the screen, each on a page of its own.
import { MonitorOff } from "lucide-react";
import { Suspense, lazy } from "react";
import { Empty, Loading } from "../../components/ui";
import { hasScreen } from "../../lib/screen";
import { WithVm } from "./Layout";

// The terminal is as large as the rest of the page together: loaded when it is looked at.
const Terminal = lazy(() => import("../../components/Terminal"));
const Screen = lazy(() => import("../../components/Screen"));

export const ConsolePage = () => (
  <WithVm>
    {(vm) => (
      <Suspense fallback={<Loading />}>
        <Terminal key={vm.meta.id} vm={vm.meta.id} name={vm.meta.name} state={vm.status.state} />
      </Suspense>
    )}
  </WithVm>
);

export const ScreenPage = () => (
  <WithVm>
    {(vm) => {
      if (!hasScreen(vm))
        return (
          <Empty icon={MonitorOff} title="This machine has no screen.">
            Its serial console is under Console.
          </Empty>
        );
      if (vm.status.state !== "running" && vm.status.state !== "paused")
        return (
          <Empty icon={MonitorOff} title="The machine does not run.">
            Start it to see its screen.
          </Empty>
        );
      return (
        <Suspense fallback={<Loading />}>
          <Screen key={vm.meta.id} vm={vm.meta.id} name={vm.meta.name} />
        </Suspense>
      );
    }}
  </WithVm>
);
