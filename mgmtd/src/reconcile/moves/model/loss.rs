//! Leases, and hosts that are lost: by power, or because they reach the cluster no more. Of leases only what counts is played: all
//! of a host run out together, and only after that something fails over.

use super::*;

/// A lease to begin with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leased {
    pub(super) epoch: u64,
    pub(super) lapses: u32,
}

impl World {
    /// As [`crate::ha::host::HostLease::for_start`]: only of what the host has read up to the grant.
    pub(super) fn lease_of(&self, h: usize, epoch: u64) -> Option<Leased> {
        let host = &self.hosts[h];
        let daemon = host.daemon.as_ref().filter(|_| !host.silent && !host.off)?;
        let known =
            daemon.view == self.state && self.record(&daemon.view).runs_on(self.ids[h]) == Some(epoch);
        known.then_some(Leased { epoch, lapses: host.lapses })
    }

    pub(super) fn extend_lease(&mut self, h: usize) {
        let Some(daemon) = &self.hosts[h].daemon else { return };
        let Want::This(desired) = &daemon.want else { return };
        // As [`crate::compute::Fleet::leased`].
        if daemon.life.epoch().is_some_and(|epoch| epoch != desired.runs_in())
            && self.broken != Some(Broken::Epoch)
        {
            return;
        }
        let Some(lease) = self.lease_of(h, desired.runs_in()) else { return };
        self.take_lease(h, lease);
    }

    pub(super) fn take_lease(&mut self, h: usize, lease: Leased) {
        if let Some(monitor) = self.hosts[h].monitor.as_mut().filter(|m| lease.epoch >= m.epoch) {
            (monitor.epoch, monitor.lapses) = (lease.epoch, lease.lapses);
        }
    }

    /// Takes up what stands still, as the driver does: with a lease.
    pub(super) fn reclaim(&mut self, h: usize) {
        let Some(daemon) = &self.hosts[h].daemon else { return };
        let Want::This(desired) = &daemon.want else { return };
        let Some(lease) = self.lease_of(h, desired.epoch) else { return };
        self.take_lease(h, lease);
        if let Some(monitor) = &mut self.hosts[h].monitor {
            monitor.phase = Phase::Runs;
        }
        self.keep(h);
    }

    /// A machine that stays where it is goes on only under its lease.
    pub(super) fn keep(&mut self, h: usize) {
        let host = &self.hosts[h];
        if host.monitor.is_some_and(|m| m.lapses != host.lapses) {
            self.end_monitor(h, ExitReason::LeaseLost);
        }
    }

    pub(super) fn power_cut(&mut self, h: usize, arrive: usize) {
        for passage in &mut self.passages {
            let side = usize::from(passage.from != h);
            passage.cut(if side == 0 { 0 } else { 2 }, 0);
            passage.cut(1, arrive);
            passage.end_relay(side, arrive);
        }
        let host = &mut self.hosts[h];
        (host.daemon, host.monitor, host.record) = (None, None, None);
        (host.off, host.silent) = (true, false);
        host.lapses += 1;
    }

    pub(super) fn boot(&mut self, h: usize) {
        if !std::mem::take(&mut self.hosts[h].off) {
            return;
        }
        self.boot_ids += 1;
        let name = ["a", "b"][h].to_owned();
        let boot = Uuid::from_u128(self.boot_ids);
        self.apply(Op::HostStarted { host: self.ids[h], name, boot }).unwrap();
    }

    /// The leader decides that the owner is lost.
    pub(super) fn fail_over(&mut self) {
        let record = self.record(&self.state);
        let (epoch, owner) = (record.epoch, record.vm.status.host);
        let Some(h) = self.ids.iter().position(|id| owner == Some(*id)) else { return };
        let other = &self.hosts[OTHER[h]];
        if !(self.hosts[h].silent || self.hosts[h].off) || other.silent || other.off {
            return;
        }
        if self.broken != Some(Broken::Lease) {
            self.hosts[h].lapses += 1;
        }
        let (from, to) = (self.ids[h], self.ids[OTHER[h]]);
        let _ = self.apply(Op::FailOver { id: self.vm, from, epoch, to, term: 1, past_places: true });
    }
}
