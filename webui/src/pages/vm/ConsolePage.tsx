// The serial console on a page of its own.
import { Suspense, lazy } from "react";
import { Loading } from "../../components/ui";
import { WithVm } from "./Layout";

// The terminal is as large as the rest of the page together: loaded when it is looked at.
const Terminal = lazy(() => import("../../components/Terminal"));

export const ConsolePage = () => (
  <WithVm>
    {(vm) => (
      <Suspense fallback={<Loading />}>
        <Terminal key={vm.meta.id} vm={vm.meta.id} name={vm.meta.name} state={vm.status.state} />
      </Suspense>
    )}
  </WithVm>
);
