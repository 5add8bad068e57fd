//! Base board management controllers (BMC): the small computers that tell whether a host is on, and switch it off, while the host
//! itself is silent.
//!
//! ```text
//!   BmcRecord (agreed state) ──▶ open ──▶ Board: machine, power, cut      redfish: HTTPS, DSP0266; ipmi: RMCP+, UDP
//!                                          ▲  ▲
//!        the manager wants a host fenced: carry │
//!                                             └ watch: the leader asks every few minutes, so that a broken one is known before
//!                                               it is needed
//! ```
//! Owns: drivers behind [`Board`], what a BMC said last ([`Boards`]), and who asks which one.
//! Invariants
//! - A password is sent only to the BMC whose certificate the settings name; by IPMI it is never sent.
//! - A BMC is asked from another host than its own, where there is another: many share their network port with the host, and cannot
//!   be reached from it.
//! - What is answered is not believed where it cannot be true: see `watch`.

mod carry;
mod ipmi;
mod redfish;
mod watch;

pub(crate) use carry::carry_out;
pub use watch::Boards;

use crate::{
    cluster::{Cluster, state::BmcRecord},
    dial,
};
use async_trait::async_trait;
use lq_api::{
    HostId,
    bmc::{BmcPower, BmcProtocol, BmcTest, fingerprint},
};
use std::time::Duration;

/// Where a host asks another one to ask a BMC.
pub(crate) const TEST_PATH: &str = "/host/bmc-test";
/// Longest a test may take.
const TEST: Duration = Duration::from_secs(25);
/// Longest another host may take to pass on what came of a test.
const PASSED_ON: Duration = Duration::from_secs(30);

/// Why a BMC does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// There is no way to it, or nobody that is trusted.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It does not let us in.
    #[error("it refuses the user or the password: correct them, and see that the account is not locked")]
    Credentials,
    /// The user may not do this.
    #[error("the user may not do this: give it the right to see and to switch the power ({0})")]
    Forbidden(String),
    /// It answers that it cannot.
    #[error("it refuses: {0}")]
    Refused(String),
    /// It answers something else than the standard says.
    #[error("its answer is not understood: {0}")]
    Unclear(String),
}

/// A BMC, spoken to in one of the protocols. Each call has a limit of time of its own.
#[async_trait]
pub(super) trait Board: Send + Sync {
    /// Which machine it says it switches, in words.
    async fn machine(&self) -> Result<String, Fault>;

    /// Whether that is on. All that is not certainly off is on.
    async fn power(&self) -> Result<BmcPower, Fault>;

    /// Takes its power away at once. That it is gone, [`Self::power`] says.
    async fn cut(&self) -> Result<(), Fault>;
}

/// The driver for these settings.
pub(super) fn open(record: &BmcRecord) -> Result<Box<dyn Board>, Fault> {
    match record.spec.protocol {
        BmcProtocol::Redfish => Ok(Box::new(redfish::Redfish::new(record)?)),
        BmcProtocol::Ipmi => Ok(Box::new(ipmi::Ipmi::new(record)?)),
    }
}

/// Asks a BMC once, from this host. Nothing is switched.
pub(crate) async fn test(record: &BmcRecord) -> BmcTest {
    let asked = tokio::time::timeout(TEST, try_out(record)).await;
    asked.unwrap_or_else(|_| failed(format!("it did not answer within {} s", TEST.as_secs())))
}

fn failed(why: impl ToString) -> BmcTest {
    BmcTest { failure: Some(why.to_string()), ..BmcTest::default() }
}

async fn try_out(record: &BmcRecord) -> BmcTest {
    if let Some(refused) = look_at_certificate(record).await {
        return refused;
    }
    let asked = async {
        let board = open(record)?;
        Ok((board.machine().await?, board.power().await?))
    };
    match asked.await {
        Ok((machine, power)) => BmcTest { power: Some(power), machine: Some(machine), ..BmcTest::default() },
        Err::<_, Fault>(fault) => failed(fault),
    }
}

/// What is wrong with the certificate it presents, before anything is sent to it.
async fn look_at_certificate(record: &BmcRecord) -> Option<BmcTest> {
    if !record.spec.protocol.has_certificate() {
        return None;
    }
    let Some((host, port)) = record.spec.place() else {
        return Some(failed("its address is not understood"));
    };
    let certificate = match dial::presented(&host, port).await {
        Ok(certificate) => certificate,
        Err(why) => return Some(failed(Fault::Unreachable(why))),
    };
    let presented = crate::certificate::fingerprint(&certificate);
    let trusted = record.spec.certificate.as_deref();
    if trusted.is_some_and(|pin| fingerprint(pin) == fingerprint(&presented)) {
        return None;
    }
    let why = match trusted {
        None => {
            "nobody has said yet which certificate it has: compare the fingerprint it presents with the one the BMC itself shows, and \
             set it"
        }
        Some(_) => {
            "it presents another certificate than the one that was set. If it got a new one, compare the fingerprint with the one \
             the BMC itself shows, and set it; else somebody stands in between"
        }
    };
    Some(BmcTest { presented: Some(presented), ..failed(why) })
}

/// Asks the BMC of `host` once, from the host that leads, or where that is its own, from another.
pub(crate) async fn test_of(cluster: &Cluster, host: HostId, record: &BmcRecord) -> BmcTest {
    let me = cluster.identity().host;
    let leader = cluster.standing().leader;
    let others: Vec<HostId> = cluster.read(|s| s.hosts.keys().copied().collect());
    let mut asked = Vec::new();
    for from in leader.into_iter().chain([me]).chain(others).filter(|from| *from != host) {
        if asked.contains(&from) {
            continue;
        }
        asked.push(from);
        if from == me {
            return test(record).await;
        }
        match cluster.ask(from, TEST_PATH, record, PASSED_ON).await {
            Ok(found) => return found,
            Err(e) => tracing::debug!(%from, error = %e, "a BMC is not asked from there"),
        }
    }
    // Nobody else is there.
    test(record).await
}
