// The pages of hosts, loaded together.
export { HostBmc } from "./Bmc";
export { HostLayout } from "./Layout";
export { Hosts } from "./List";
export { HostNetworks } from "./Network";
export { HostPerformance } from "./Performance";
export { HostEvents, HostHardware, HostSummary, HostVms } from "./Pages";
export { HostStorage } from "./Storage";
export { HostSystem } from "./System";
