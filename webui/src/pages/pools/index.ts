export { PoolPage } from "./Detail";
export { Pools } from "./List";
