//! A state that is told one thing after another.

use super::*;

/// Its invariants are checked after everything it is told, be it taken or refused.
pub(super) struct Bench {
    pub(super) state: State,
    revision: u64,
}

impl Bench {
    /// One host, and nothing on it.
    pub(super) fn start() -> Self {
        Self { state: start().0, revision: 10 }
    }

    pub(super) fn apply(&mut self, op: Op) -> Outcome {
        self.revision += 1;
        let outcome = self.state.apply(self.revision, &command(op), &mut Vec::new());
        check(&self.state, self.revision);
        outcome
    }

    pub(super) fn must(&mut self, op: Op) {
        self.apply(op).unwrap();
    }

    /// What a user changes of a machine.
    pub(super) fn change(&mut self, id: VmId, change: impl FnOnce(&mut VmSpec)) -> Outcome {
        let mut spec = self.state.vms[&id].vm.spec.clone();
        change(&mut spec);
        let update = UpdateVm { spec: Some(spec), ..UpdateVm::default() };
        self.apply(Op::UpdateVm { id, expect: None, update })
    }

    /// What a host says of a machine that has come as far as is asked of it.
    pub(super) fn see(&mut self, id: VmId, state: VmState) {
        let status = seen(state, self.state.vms[&id].vm.meta.generation);
        self.must(Op::ObserveVm { id, status, host_ends: false, by: None });
    }

    /// Switches a machine on.
    pub(super) fn runs(&mut self, id: VmId) {
        self.change(id, |spec| spec.power = PowerState::Running).unwrap();
        self.see(id, VmState::Running);
    }

    /// Switches a machine off.
    pub(super) fn rests(&mut self, id: VmId) {
        self.change(id, |spec| spec.power = PowerState::Stopped).unwrap();
        self.see(id, VmState::Stopped);
    }
}
