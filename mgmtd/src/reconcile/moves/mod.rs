//! Machines that move between hosts: the old host's part ([`depart`]), the new one's ([`arrive`]), whole hosts ([`evacuate`]).
//!
//! ```text
//!  old host                                        agreed state            new host
//!  1 BeginMove ─────────────────────────────────▶  begun                   driver has a machine wait
//!  2 asks for a stream ───────────── mutual TLS ─────────────────────────▶ answers once it waits
//!  3 the monitor copies ═══════════ frames ══════════════════════════════▶ the monitor takes in
//!  4 the monitor's Commit is held back
//!    SwitchMove ────────────────────────────────▶  switched, next epoch
//!    driver lets go, Commit is passed on ════════════════════════════════▶ takes the disks, runs
//!  5 the old monitor ends ◀════════ Running ══════════════════════════════
//!                                                  at home  ◀───────────── ConfirmMove
//! ```
//! What dies, and what follows (the rules are the state's, [`crate::cluster::state::Move`]):
//!
//! | at | old daemon | new daemon | old monitor | new monitor | connection |
//! |---|---|---|---|---|---|
//! | 1–3 | starts again, sees a move it does not know: `EndMove`, the guest ran on | stream ends: `EndMove`, stays | crash of a machine: `EndMove`, restart policy | stream ends: stays | stays |
//! | 4, before the switch applies | `EndMove` decides against a switch still on its way; then the monitor, in doubt, is told to go on | as at 3; the monitor in doubt is told to go on | restart policy after `EndMove` | stays | stays |
//! | 4, switched, Commit not passed on | new daemon sees the stream end without Commit: `ReturnMove`, the old host goes on | its monitor fails by itself and says that it never ran: `ReturnMove` | Commit is passed on if it was read; else as the first | `ReturnMove`, if it or its daemon says that it never ran; else `ConfirmMove`, starts anew | as the first |
//! | 4, Commit passed on | nothing: it runs there; what stands still here is ended after `ConfirmMove` | starts again, finds it running: `ConfirmMove` | nothing | `ConfirmMove`, restart policy there | the monitor runs there: `ConfirmMove` |
//! | new monitor refuses after Commit | | | | the old daemon passes `Refuse` on only after `ReturnMove` was applied | |
//! | whole old host | its machine is gone with it before the switch; after it nothing is lost | | | | |
//! | whole new host | before the switch: stays. After it: its boot ends the move, the machine is started there as after any power cut | | | | |
//!
//! So daemons and connections may die as they like, and the guest never starts anew; [`model`](self) plays that through. Where a
//! monitor dies, or a whole host, the guest dies with it, as it does without a move.
//!
//! Without a majority nothing switches: a guest that stands still at that very moment stands still until there is one again.

mod arrive;
mod depart;
mod evacuate;
#[cfg(test)]
mod model;
mod relay;

use super::{Node, lock};
use crate::cluster::state::HostRole;
use arrive::Word;
use lq_api::{HostId, VmId, task::MigrationProgress};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use depart::MoveError;
pub(crate) use depart::PROTOCOL;

/// Moves this daemon is at work on, and what it knows of those to this host.
#[derive(Default)]
pub(super) struct Moves {
    leaving: Mutex<HashSet<Uuid>>,
    arriving: Mutex<HashMap<Uuid, Word>>,
}

/// Who hears how a move goes, and may call it off.
pub(super) trait Follower: Send + Sync {
    /// It is so far.
    fn progress(&self, share: Option<f64>, progress: MigrationProgress, message: &str);
    /// It cannot be called off any more.
    fn goes_through(&self);
    /// Begins when it is to be called off.
    fn cancelled(&self) -> CancellationToken;
}

impl Node {
    /// The hosts the leader hears, where there is more than one host and it can be asked.
    pub async fn reachable(&self) -> Option<BTreeSet<HostId>> {
        if self.cluster.read(|s| s.hosts.len()) == 1 {
            return None;
        }
        self.cluster.health().await.map(|h| h.reachable)
    }

    /// Sees to moves that concern this host and that nobody here works on.
    pub(super) fn look_at_moves(self: &Arc<Self>) {
        let me = self.id();
        let (roles, known) = self.cluster.read(|s| {
            let roles: Vec<(VmId, HostRole)> =
                s.machines_of(me).map(|(r, role)| (r.vm.meta.id, role)).collect();
            let known: HashSet<Uuid> = s.vms.values().filter_map(|r| Some(r.moving?.id)).collect();
            (roles, known)
        });
        for (vm, role) in roles {
            match role {
                HostRole::Leaving(moving) if !lock(&self.moves.leaving).contains(&moving) => {
                    self.keep(vm.0, move |node| async move { node.end_stale_move(vm, moving).await });
                }
                HostRole::Settling(moving) => {
                    self.keep(vm.0, move |node| async move { node.settle_arrival(vm, moving).await });
                }
                _ => {}
            }
        }
        lock(&self.moves.arriving).retain(|moving, word| *word == Word::UnderWay || known.contains(moving));
    }
}
