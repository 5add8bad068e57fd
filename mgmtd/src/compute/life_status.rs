//! What a VM's life looks like from outside.

use super::{Life, Part, Rest, State, Stop, Want};
use lq_api::vm::{PowerState, VmState, VmStatus};

/// What is said of a machine whose disks wait for room.
pub(super) const SHORT_OF_ROOM: &str = "its writes wait: there is no room left where its disks lie. Nothing is lost; they go on by \
                                        themselves once there is room: delete what is not needed there, or make the pool larger";

impl Life {
    /// The status to report; none while nobody said what is wanted. Host and addresses are for others to fill in.
    pub(crate) fn status(&self, want: &Want) -> Option<VmStatus> {
        let Want::This(desired) = want else { return None };
        // What is seen of a machine that may be another host's is no news of it.
        if matches!(desired.part, Part::Still | Part::Arriving(_)) {
            return None;
        }
        let mut status = VmStatus {
            restarts: self.restarts,
            observed_generation: desired.generation,
            ..VmStatus::default()
        };
        match &self.state {
            State::Resting { rest, reason, .. } => {
                status.state = match rest {
                    Rest::Stopped => VmState::Stopped,
                    Rest::Waits => VmState::Starting,
                    Rest::Failed => VmState::Failed,
                };
                status.reason.clone_from(reason);
            }
            State::Launching => status.state = VmState::Starting,
            State::Waiting { reason, .. } => {
                status.state = VmState::Starting;
                status.reason = Some(reason.clone());
            }
            // What follows is decided once the move is over, which this ends.
            State::Ended { end, .. } if desired.part == Part::Leaving && !end.migrated() => {
                status.state = VmState::Starting;
                status.reason = Some(end.why().to_owned());
            }
            // Decided on in the same step; never seen from outside once something is wanted.
            State::Ended { .. } => return None,
            State::Up(up) => {
                status.pid = up.pid;
                status.started_at = Some(up.started_at);
                status.pending = self.pending(desired);
                status.memory_bytes = self.has.as_ref().map(|has| has.memory_with(|region| region.taken));
                status.state = match up.stop {
                    Stop::No if up.paused => VmState::Paused,
                    Stop::No => VmState::Running,
                    Stop::Asked { .. } | Stop::Killing { .. } => VmState::Stopping,
                };
                status.reason = match up.stop {
                    Stop::No if up.short_of_room => Some(SHORT_OF_ROOM.into()),
                    Stop::No => up.tpm_failed.as_ref().map(|why| {
                        format!("its TPM has failed ({why}): stop the machine and start it to have it back")
                    }),
                    _ if desired.spec.power != PowerState::Stopped => {
                        Some("started again as soon as it has stopped".into())
                    }
                    Stop::Asked { .. } => Some(format!(
                        "the guest was asked to power off and is ended by force after {} s",
                        desired.stop.timeout_seconds
                    )),
                    Stop::Killing { .. } => Some("ended by force".into()),
                };
            }
        }
        Some(status)
    }
}
