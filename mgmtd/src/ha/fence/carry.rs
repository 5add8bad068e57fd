//! Asking the BMC of a lost host whether it is off, and switching it off.

use super::{Board, Fault, open};
use crate::{
    cluster::state::BmcRecord,
    ha::manager::{Ask, Fenced},
};
use lq_api::bmc::BmcPower;
use std::time::{Duration, Instant};

/// Longest in all: after that the lease and all margins of the host are long over.
const LONGEST: Duration = Duration::from_secs(30);
/// Between two questions whether it is off by now.
const POLL: Duration = Duration::from_millis(500);

/// Does what was asked. `may_cut` is asked right before the power is cut, and says why it must not be.
pub(crate) async fn carry_out(
    record: &BmcRecord,
    ask: Ask,
    may_cut: impl Fn() -> Result<(), &'static str> + Send,
) -> Fenced {
    let work = async {
        let board = open(record)?;
        asked(&*board, ask, may_cut).await
    };
    match tokio::time::timeout(LONGEST, work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(fault)) => Fenced::Failed(fault.to_string()),
        Err(_) => {
            Fenced::Failed(format!("it did not say within {} s that the host is off", LONGEST.as_secs()))
        }
    }
}

async fn asked(
    board: &dyn Board,
    ask: Ask,
    may_cut: impl Fn() -> Result<(), &'static str> + Send,
) -> Result<Fenced, Fault> {
    match (board.power().await?, ask) {
        (BmcPower::Off, _) => return Ok(Fenced::Off),
        (BmcPower::On, Ask::Look) => return Ok(Fenced::On),
        (BmcPower::On, Ask::Cut) => {}
    }
    if let Err(why) = may_cut() {
        return Ok(Fenced::Failed(format!("the host was left on: {why}")));
    }
    let refused = board.cut().await.err();
    let told = Instant::now();
    // What it says of the power counts, not how it answered: some refuse what they have just done.
    loop {
        match board.power().await {
            Ok(BmcPower::Off) => return Ok(Fenced::Off),
            Ok(BmcPower::On) if told.elapsed() > POLL => {
                if let Some(fault) = refused {
                    return Err(fault);
                }
            }
            // It is busy with it.
            Ok(BmcPower::On) | Err(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
}
