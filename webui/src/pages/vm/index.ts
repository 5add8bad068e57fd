// The pages of machines, loaded together: whoever opens one opens the others.
export { ConsolePage, ScreenPage } from "./ConsolePage";
export { CreateVm } from "./Create";
export { VmEvents } from "./Events";
export { Hardware } from "./Hardware";
export { VmLayout } from "./Layout";
export { Vms } from "./List";
export { VmNetworks } from "./Networks";
export { Performance } from "./Performance";
export { Summary } from "./Summary";
