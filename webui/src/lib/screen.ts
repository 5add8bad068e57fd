// Whether a machine has a screen that can be shown.
import type { Vm } from "../api/client";

/** The host says so in the machine's spec; one that knows no screens says nothing. */
export const hasScreen = (vm: Vm) => "display" in vm.spec && vm.spec.display === true;
