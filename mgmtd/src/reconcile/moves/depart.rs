//! The old host's part of a move: it claims a place, passes the machine's stream on, and lets go of the machine at the right
//! moment.

use super::{
    super::{AtWork, Node},
    Follower, lock,
    relay::{Gate, relay},
};
use crate::{
    causes,
    cluster::{CallError, Op, Refusal, Reply, State, WriteError, state::VmRecord},
    compute::{Action, Machine, frames::Frame},
    hardware::Hardware,
    placement::{self, Request},
    storage,
    tasks::{Handle, NewTask},
};
use async_trait::async_trait;
use axum::body::Body;
use hyper::{Request as HttpRequest, StatusCode, header};
use hyper_util::rt::TokioIo;
use lq_api::{
    Bytes, HostId, VmId,
    local::{
        frame::Kind,
        vmm::{MigrateOptions, MigrationPhase},
    },
    placement::PlacementDecision,
    problem::Problem,
    task::{MigrationProgress, MovePhase, Task},
    vm::MigrateVm,
};
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a claim is tried again that others were faster with.
const CLAIMS: usize = 5;
/// How often a move is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Pause before a write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Longest a driver may take to say that a machine is at rest.
const SETTLES: Duration = Duration::from_secs(10);
/// Longest the other host may take to answer: it may have to bring images first.
const OPENS: Duration = Duration::from_secs(960);
/// Longest the other host may take to say what became of the machine.
const SETTLED: Duration = Duration::from_secs(180);
/// Largest refusal of another host, and largest file of what firmware or TPM keep.
const MAX_BODY: usize = 1 << 20;
/// Longest a change of the machine may take that is under way when its move begins.
const CHANGES: Duration = Duration::from_secs(90);
/// Bytes of a page of memory.
const PAGE: u64 = 4096;
/// Name of the protocol the stream between the hosts speaks.
pub(crate) const PROTOCOL: &str = "lq-move";

/// Why a move does not begin.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The state refused it, or could not be asked.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No host can take the machine.
    #[error("no host can take the machine")]
    Nowhere(PlacementDecision),
    /// The host does not answer.
    #[error("the host `{0}` does not answer: choose another, or try again when it is back")]
    Silent(String),
}

impl Follower for Handle {
    fn progress(&self, share: Option<f64>, progress: MigrationProgress, message: &str) {
        Handle::progress(self, share, message);
        self.migration(progress);
    }
    fn goes_through(&self) {
        Handle::goes_through(self);
    }
    fn cancelled(&self) -> CancellationToken {
        Handle::cancelled(self)
    }
}

/// A place that was claimed.
pub(super) struct Claimed {
    moving: Uuid,
    to: HostId,
    /// The epoch it is the other host's in.
    epoch: u64,
    /// Claimed before the state was told, so that nobody takes the move for one that was left.
    leaving: Option<AtWork>,
}

impl Node {
    /// Moves a machine to another host. The task ends when it is there.
    pub async fn migrate_vm(
        self: &Arc<Self>,
        id: VmId,
        expect: Option<u64>,
        wish: &MigrateVm,
        actor: &str,
    ) -> Result<Task, MoveError> {
        let record = self.cluster.read(|s| s.vms.get(&id).cloned());
        let record = record.ok_or_else(|| WriteError::Refused(Refusal::not_found("vm", id)))?;
        let new = NewTask {
            kind: "vm.migrate",
            target: format!("vm/{id}"),
            actor: actor.into(),
            cancellable: !record.at_rest(),
        };
        let node = self.clone();
        if record.at_rest() {
            let to = self.choose(&record, wish.host).await?;
            self.cluster.read(|s| s.may_move(&record, to)).map_err(WriteError::from)?;
            return Ok(self.tasks.start(new, |_| async move { node.reassign(id, expect, to).await }));
        }
        let claimed = self.claim(id, expect, wish.host).await?;
        let options =
            MigrateOptions { bandwidth: wish.bandwidth_bytes.map(Bytes::get), ..MigrateOptions::default() };
        Ok(self.tasks.start_asked(new, |handle| async move {
            node.depart(id, claimed, options, &handle).await.map(Some)
        }))
    }

    /// The host a machine goes to: the one that is wished for, or the one that fits best.
    async fn choose(&self, record: &VmRecord, wished: Option<HostId>) -> Result<HostId, MoveError> {
        let reachable = self.reachable().await;
        if let Some(host) = wished {
            // Whether there is such a host, and what speaks against it, says the state.
            let name = self.cluster.read(|s| s.hosts.get(&host).map(|h| h.meta.name.clone()));
            return match name {
                Some(name) if reachable.is_some_and(|r| !r.contains(&host)) => Err(MoveError::Silent(name)),
                _ => Ok(host),
            };
        }
        let request = Request::going_on(&record.vm);
        let decision = self.cluster.read(|s| placement::decide(s, request, reachable.as_ref()));
        decision.host.ok_or(MoveError::Nowhere(decision))
    }

    /// Claims a place for a machine that runs.
    pub(super) async fn claim(
        self: &Arc<Self>,
        id: VmId,
        expect: Option<u64>,
        wished: Option<HostId>,
    ) -> Result<Claimed, MoveError> {
        let mut claims = 0;
        loop {
            let record = self.cluster.read(|s| s.vms.get(&id).cloned());
            let record = record.ok_or_else(|| WriteError::Refused(Refusal::not_found("vm", id)))?;
            let to = self.choose(&record, wished).await?;
            let moving = Uuid::new_v4();
            let leaving = AtWork::begin(self, |node| &node.moves.leaving, moving);
            let hardware = self.has(id).await?.map(Arc::new);
            match self.cluster.write(Op::BeginMove { id, expect, moving, to, hardware }).await {
                Ok(_) => {
                    let epoch = self.cluster.read(|s| s.vms.get(&id).map(|r| r.next_epoch()));
                    let epoch = epoch.ok_or_else(|| WriteError::Refused(Refusal::not_found("vm", id)))?;
                    return Ok(Claimed { moving, to, epoch, leaving });
                }
                // Another machine was faster: decided anew.
                Err(WriteError::Refused(Refusal::NoRoom(_))) if wished.is_none() && claims < CLAIMS => {
                    claims += 1;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// What a machine of this host has, where it runs and that is known.
    async fn has(&self, id: VmId) -> Result<Option<Hardware>, WriteError> {
        let Ok(machine) = self.fleet.machine(id) else { return Ok(None) };
        let said = machine.inventory().await;
        said.map(|has| has.map(Hardware::layout))
            .map_err(|e| WriteError::Unavailable(format!("the machine does not say what it has: {e}")))
    }

    fn host_name(&self, host: HostId) -> String {
        self.cluster.read(|s| s.hosts.get(&host).map_or_else(|| host.to_string(), |h| h.meta.name.clone()))
    }

    /// Moves a machine to the place that was claimed, and says where it is in the end.
    pub(super) async fn depart(
        self: &Arc<Self>,
        vm: VmId,
        claimed: Claimed,
        options: MigrateOptions,
        follower: &dyn Follower,
    ) -> Result<String, String> {
        let Claimed { moving, to, epoch, leaving } = claimed;
        let name = self.host_name(to);
        let passage = Passage {
            node: self.clone(),
            vm,
            moving,
            to,
            follower,
            epoch,
            switched: AtomicBool::new(false),
            machine: OnceLock::new(),
            stood: Mutex::default(),
        };
        passage.tell(MovePhase::Preparing, None, &format!("`{name}` makes a place"));
        let tried = passage.go(options, &name).await;
        let there = self.place_after(vm, moving).await?;
        drop(leaving);
        if there == Some(to) {
            let pause = passage.pause();
            let progress =
                MigrationProgress { phase: MovePhase::Moved, pause_micros: pause, ..passage.seen() };
            follower.progress(Some(1.0), progress, "moved");
            let stood = pause.map(|p| format!("; it stood still for {} ms", p.div_ceil(1000)));
            return Ok(format!("it is on `{name}` now{}", stood.unwrap_or_default()));
        }
        if follower.cancelled().is_cancelled() {
            return Err("cancelled; the machine stays where it is".into());
        }
        let reason = tried.err().unwrap_or_else(|| format!("`{name}` gave it back"));
        Err(format!("the machine stays where it is: {reason}"))
    }

    /// Ends the move as far as it was not switched; where the machine is after it.
    async fn place_after(&self, vm: VmId, moving: Uuid) -> Result<Option<HostId>, String> {
        let end = Op::EndMove { id: vm, moving };
        loop {
            match self.cluster.write(end.clone()).await {
                Ok(Reply::Vm(vm)) => return Ok(vm.status.host),
                Ok(_) => return Err("the machine was deleted meanwhile".into()),
                Err(WriteError::Refused(_)) => break,
                Err(_) if self.stop.is_cancelled() => return Err("the daemon ends".into()),
                Err(e) => {
                    tracing::warn!(%vm, error = %e, "a move could not be ended yet; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        // It is the other host's; that one says whether it came there.
        let settled = self.wait_for(SETTLED, |s| match s.vms.get(&vm) {
            Some(r) if r.moving.is_some_and(|m| m.id == moving) => None,
            other => Some(other.and_then(|r| r.vm.status.host)),
        });
        settled.await.ok_or_else(|| {
            "the machine is the other host's, which has not said yet whether it runs there".to_owned()
        })
    }

    /// Ends a move that a daemon before this one left.
    pub(super) async fn end_stale_move(&self, vm: VmId, moving: Uuid) {
        if lock(&self.moves.leaving).contains(&moving) {
            return;
        }
        if let Ok(machine) = self.fleet.machine(vm)
            && let Err(e) = machine.act(Action::CancelMove).await
        {
            tracing::debug!(%vm, error = %e, "there was nothing to call off");
        }
        match self.cluster.write(Op::EndMove { id: vm, moving }).await {
            Ok(_) | Err(WriteError::Refused(_)) => {}
            Err(e) => {
                tracing::warn!(%vm, error = %e, "a move that was left could not be ended yet; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Makes a machine at rest another host's, with what its firmware and its TPM keep.
    async fn reassign(&self, id: VmId, expect: Option<u64>, to: HostId) -> Result<Option<String>, String> {
        let name = self.host_name(to);
        // It may have been told to stop a moment ago.
        self.wait_for(SETTLES, |s| s.vms.get(&id).is_none_or(|r| r.is_settled()).then_some(())).await;
        // Started and stopped meanwhile, they keep something else.
        let expect = expect.or_else(|| self.cluster.read(|s| s.vms.get(&id).map(|r| r.vm.meta.revision)));
        let give = async |what: &str, path: &str, bytes: Vec<u8>| {
            let request = HttpRequest::post(format!("/store/{path}/{id}"))
                .header(header::HOST, "peer")
                .body(Body::from(bytes))
                .map_err(|e| e.to_string())?;
            let answer = self.cluster.pass(to, request).await.map_err(|e| e.to_string())?;
            match answer.status().is_success() {
                true => Ok(()),
                false => Err(format!("`{name}` did not take {what}: {}", said(answer).await)),
            }
        };
        match tokio::fs::read(self.pool.vars_path(id)).await {
            Ok(vars) => give("its firmware variables", "vars", vars).await?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(format!("its firmware variables cannot be read: {e}")),
        }
        let dir = std::path::PathBuf::from(self.pool.tpm_path(id));
        let kept = tokio::task::spawn_blocking(move || storage::tpm::kept(&dir)).await;
        match kept.map_err(|e| e.to_string())? {
            Ok(None) => {}
            Ok(Some(kept)) => give("what its TPM keeps", "tpm", kept).await?,
            Err(e) => return Err(format!("what its TPM keeps cannot be read: {}", causes::chain(&e))),
        }
        self.cluster.write(Op::ReassignVm { id, expect, to }).await.map_err(|e| e.to_string())?;
        Ok(Some(format!("it is on `{name}` now")))
    }
}

/// Why another host refused.
async fn said(answer: hyper::Response<hyper::body::Incoming>) -> String {
    let status = answer.status();
    let text = axum::body::to_bytes(Body::new(answer.into_body()), MAX_BODY).await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&text) {
        Ok(problem) => problem.detail,
        Err(_) => format!("it answered {status}"),
    }
}

/// One machine on its way.
struct Passage<'a> {
    node: Arc<Node>,
    vm: VmId,
    moving: Uuid,
    to: HostId,
    follower: &'a dyn Follower,
    /// The epoch it is the other host's in.
    epoch: u64,
    switched: AtomicBool,
    /// What is sent.
    machine: OnceLock<Arc<dyn Machine>>,
    stood: Mutex<Stood>,
}

/// What was seen of it.
#[derive(Default)]
struct Stood {
    still: Option<Instant>,
    pause: Option<Duration>,
    last: MigrationProgress,
    /// When the present pass began.
    pass: Option<Instant>,
}

impl Passage<'_> {
    fn tell(&self, phase: MovePhase, share: Option<f64>, message: &str) {
        let progress = {
            let mut stood = lock(&self.stood);
            stood.last.phase = phase;
            stood.last
        };
        self.follower.progress(share, progress, message);
    }

    fn seen(&self) -> MigrationProgress {
        lock(&self.stood).last
    }

    fn pause(&self) -> Option<u64> {
        lock(&self.stood).pause.and_then(|p| u64::try_from(p.as_micros()).ok())
    }

    /// Does everything up to the end of the stream. Where the machine is after that, the state knows.
    /// What waits for the machine is made as it was said to be: it must be so still, and stay so.
    async fn check_hardware(&self) -> Result<(), String> {
        let node = &self.node;
        if !node.fleet.is_left_alone(self.vm, CHANGES).await {
            return Err("a change of it that is under way does not end: try again later".into());
        }
        let has = node.has(self.vm).await.map_err(|e| e.to_string())?;
        let said = node.cluster.read(|s| s.vms.get(&self.vm).and_then(|r| r.hardware.clone()));
        if has.as_ref() != said.as_deref() {
            return Err("what it has changed while the move began: try again".into());
        }
        Ok(())
    }

    async fn go(&self, options: MigrateOptions, name: &str) -> Result<(), String> {
        let cancelled = self.follower.cancelled();
        let (vm, moving, node) = (self.vm, self.moving, self.node.clone());
        let machine = node.fleet.machine(vm).map_err(|e| e.to_string())?;
        let machine = self.machine.get_or_init(|| machine);
        let over = node.wait_for(Duration::MAX, |s| is_over(s, vm, moving).then_some(()));
        let opened = async {
            self.check_hardware().await?;
            self.open().await.map_err(|e| format!("`{name}` cannot take it: {e}"))
        };
        let opened = tokio::select! {
            () = cancelled.cancelled() => Err("it was called off".into()),
            _ = over => Err("it was stopped, or told otherwise, meanwhile".into()),
            () = tokio::time::sleep(OPENS) => Err(format!("`{name}` did not answer for {} minutes", OPENS.as_secs() / 60)),
            opened = opened => opened,
        };
        let stream = opened?;
        let local = machine.move_out(options).await.map_err(|e| crate::causes::chain(&e))?;
        let mut why = None;
        let over = node.wait_for(Duration::MAX, |s| is_over(s, vm, moving).then_some(()));
        tokio::pin!(over);
        let mut called_off = false;
        let mut beat = tokio::time::interval(LOOK);
        let broke = {
            let passed = relay(local, stream, self);
            tokio::pin!(passed);
            loop {
                tokio::select! {
                    passed = &mut passed => break passed.err(),
                    () = cancelled.cancelled(), if !called_off => {
                        called_off = true;
                        self.call_off(machine).await;
                    }
                    _ = &mut over, if !called_off => {
                        called_off = true;
                        why = Some("it was stopped, or told otherwise, meanwhile".to_owned());
                        self.call_off(machine).await;
                    }
                    _ = beat.tick() => if let Some(said) = self.look(machine).await { why = Some(said) },
                }
            }
        };
        // The monitor knows best why it did not go; it says so a moment after the stream's end.
        tokio::time::sleep(LOOK / 2).await;
        let known = self.look(machine).await.or(why);
        match known.or_else(|| broke.map(|e| format!("the connection to `{name}` broke: {e}"))) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    async fn call_off(&self, machine: &Arc<dyn Machine>) {
        if let Err(e) = machine.act(Action::CancelMove).await {
            tracing::debug!(vm = %self.vm, error = %e, "it is too late to call the move off");
        }
    }

    /// Opens the stream to the other host, which answers once a machine waits there.
    async fn open(&self) -> Result<TokioIo<hyper::upgrade::Upgraded>, String> {
        let request = HttpRequest::post(format!("/move/{}/{}", self.vm, self.moving))
            .header(header::HOST, "peer")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, PROTOCOL)
            .body(Body::empty())
            .map_err(|e| e.to_string())?;
        let asked = self.node.cluster.pass(self.to, request).await;
        let mut answer = asked.map_err(|e: CallError| e.to_string())?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(said(answer).await);
        }
        let stream = hyper::upgrade::on(&mut answer).await.map_err(|e| e.to_string())?;
        Ok(TokioIo::new(stream))
    }

    /// Looks how the monitor is getting on, and tells it; why it failed, where it did.
    async fn look(&self, machine: &Arc<dyn Machine>) -> Option<String> {
        let status = machine.migration().await.ok()?;
        let memory = self.node.cluster.read(|s| s.vms.get(&self.vm).map(|r| r.vm.spec.memory_bytes.get()));
        {
            let mut stood = lock(&self.stood);
            if status.passes > stood.last.rounds {
                let took = stood.pass.replace(Instant::now()).map(|began| began.elapsed().as_secs_f64());
                let passes = f64::from(status.passes - stood.last.rounds);
                let dirty = (status.dirty_pages * PAGE) as f64;
                let rate = took.filter(|t| *t > 0.0).map(|t| dirty * passes / t);
                // A rate is exact enough in whole bytes, and never negative.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                {
                    stood.last.dirty_bytes_per_second = rate.map(|r| Bytes(r as u64));
                }
            }
            stood.pass.get_or_insert_with(Instant::now);
            stood.last.sent_bytes = Bytes(status.sent_bytes);
            stood.last.rounds = status.passes;
            stood.last.throttle_percent = status.throttle_percent;
        }
        let share = memory.filter(|m| *m > 0).map(|m| (status.sent_bytes as f64 / m as f64).min(0.9));
        match status.phase {
            MigrationPhase::Copying => self.tell(MovePhase::Copying, share, "its memory is sent"),
            MigrationPhase::HandingOver => self.tell(MovePhase::Switching, Some(0.95), "it changes hands"),
            _ => {}
        }
        status.error
    }
}

/// The move is at no step any more at which this host may still send anything.
fn is_over(state: &State, vm: VmId, moving: Uuid) -> bool {
    state.vms.get(&vm).is_none_or(|r| r.moving.is_none_or(|m| m.id != moving))
}

#[async_trait]
impl Gate for Passage<'_> {
    async fn outward(&self, frame: &Frame) -> bool {
        match frame.kind() {
            Some(Kind::State) => {
                lock(&self.stood).still = Some(Instant::now());
                true
            }
            Some(Kind::Commit) => self.switch().await,
            _ => true,
        }
    }

    async fn inward(&self, frame: &Frame) -> bool {
        match frame.kind() {
            Some(Kind::Running) => {
                let mut stood = lock(&self.stood);
                stood.pause = stood.still.map(|at| at.elapsed());
                true
            }
            // The monitor here goes on when it reads this.
            Some(Kind::Refuse) if self.switched.load(Ordering::SeqCst) => self.take_back().await,
            _ => true,
        }
    }
}

impl Passage<'_> {
    /// The last word: it is passed on only once the state says that the machine is the other host's.
    async fn switch(&self) -> bool {
        self.follower.goes_through();
        self.tell(MovePhase::Switching, Some(0.95), "it changes hands");
        // Before the answer: if it is lost, the machine may be the other host's all the same.
        self.switched.store(true, Ordering::SeqCst);
        match self.node.cluster.write(Op::SwitchMove { id: self.vm, moving: self.moving }).await {
            Ok(_) => {}
            Err(e) => {
                tracing::warn!(vm = %self.vm, error = %e, "the machine could not be made the other host's");
                return false;
            }
        }
        match self.machine.get() {
            Some(machine) => self.node.fleet.let_go(machine, self.epoch).await,
            None => false,
        }
    }

    /// The other host will not run it: it is taken back, if the state agrees.
    async fn take_back(&self) -> bool {
        let (id, moving, me) = (self.vm, self.moving, self.node.id());
        loop {
            match self.node.cluster.write(Op::ReturnMove { id, moving }).await {
                Ok(_) => break,
                // Either the other host said so first, or it keeps the machine.
                Err(WriteError::Refused(_)) => {
                    let ours = self.node.cluster.read(|s| {
                        let record = s.vms.get(&id);
                        record.is_some_and(|r| r.vm.status.host == Some(me) && r.epoch == self.epoch + 1)
                    });
                    if !ours {
                        return false;
                    }
                    break;
                }
                Err(_) if self.node.stop.is_cancelled() => return false,
                Err(e) => {
                    tracing::warn!(vm = %id, error = %e, "the machine could not be taken back yet; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        self.lease_again().await;
        true
    }

    /// The lease of the machine that was taken back may have run out while it was the other host's: it goes on only with one.
    async fn lease_again(&self) {
        let lease = self.node.lease.for_start(&self.node.cluster, self.vm, self.epoch + 1);
        let leased = self.node.cluster.read(|s| s.vms.get(&self.vm).is_some_and(|r| r.runs_leased()));
        if let (Some(machine), Some(lease), true) = (self.machine.get(), lease, leased)
            && let Err(e) = machine.lease(lease.grant).await
        {
            tracing::warn!(vm = %self.vm, error = %e, "the machine that was taken back did not take its lease");
        }
    }
}
