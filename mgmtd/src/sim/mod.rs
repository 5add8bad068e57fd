//! A simulated host: machines that only pretend to run, networks that are only remembered, a host that does not exist.
//! Everything else (API, cluster state, storage with real bytes, tasks) is the real thing, so that the API, the UI and the
//! tests run on any computer without root and without KVM.

mod changing;
mod crowd;
mod hypervisor;
mod machine;
mod mounter;
mod network;
mod place;
mod travel;

pub use crowd::crowd;
pub use hypervisor::SimHypervisor;
pub use mounter::SimMounter;
pub use place::{SimFabric, SimHost};
