//! A BMC of a host, reached by the hosts at the address of their gateway: the one the daemon's own tests have. What it is told a
//! test carries out on the machine.

#[path = "../../mgmtd/tests/common/bmc_ipmi.rs"]
mod ipmi;

pub(crate) use ipmi::{FakeIpmi, Manners};

use crate::outside;
use lq_api::bmc::{BmcProtocol, BmcSpec, SetBmc};

/// What the cluster is told of it.
pub(crate) fn settings(board: &FakeIpmi) -> SetBmc {
    let spec = BmcSpec {
        protocol: BmcProtocol::Ipmi,
        address: format!("{}:{}", outside::ADDRESS, board.address.port()),
        username: ipmi::USER.into(),
        certificate: None,
        system: None,
    };
    SetBmc { spec, password: Some(ipmi::PASSWORD.into()) }
}
