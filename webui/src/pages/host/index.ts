// The pages of hosts, loaded together.
export { HostLayout } from "./Layout";
export { Hosts } from "./List";
export { HostEvents, HostHardware, HostSummary, HostVms } from "./Pages";
