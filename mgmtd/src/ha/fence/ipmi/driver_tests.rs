//! Against a BMC over UDP, and its faults.

use super::super::{carry_out, test};
use crate::{
    cluster::state::BmcRecord,
    ha::manager::{Ask, Fenced},
};
use fake::{FakeIpmi, Manners, PASSWORD, USER};
use lq_api::bmc::{BmcPower, BmcProtocol, BmcSpec};
use std::time::{Duration, Instant};

#[path = "../../../../tests/common/bmc_ipmi.rs"]
mod fake;

fn record(bmc: &FakeIpmi) -> BmcRecord {
    let spec = BmcSpec {
        protocol: BmcProtocol::Ipmi,
        address: bmc.address.to_string(),
        username: USER.into(),
        certificate: None,
        system: None,
    };
    BmcRecord { spec, password: PASSWORD.into() }
}

async fn failure(record: &BmcRecord) -> String {
    let found = test(record).await;
    assert_eq!((found.power, found.machine), (None, None));
    found.failure.unwrap()
}

#[tokio::test]
async fn a_bmc_says_what_it_is_and_whether_that_is_on() {
    let bmc = FakeIpmi::start().await;
    let found = test(&record(&bmc)).await;
    assert_eq!((found.power, found.failure), (Some(BmcPower::On), None));
    let machine = found.machine.unwrap();
    assert_eq!(machine, "manufacturer 674 (IANA), product 256, UUID 00112233-4455-6677-8899-aabbccddeeff");
    bmc.power(false);
    assert_eq!(test(&record(&bmc)).await.power, Some(BmcPower::Off));
    assert!(bmc.told().is_empty(), "a test switches nothing");
    assert_eq!(bmc.suites(), [17, 17]);
    let end = Instant::now() + Duration::from_secs(20);
    while bmc.closed() < 2 {
        assert!(Instant::now() < end, "each session is closed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn suite_3_is_spoken_only_where_17_is_refused_and_nothing_weaker() {
    let bmc = FakeIpmi::start().await;
    bmc.manners(Manners { no_17: true, ..Manners::default() });
    assert_eq!(test(&record(&bmc)).await.power, Some(BmcPower::On));
    assert_eq!(bmc.suites(), [17, 3]);
    bmc.manners(Manners { no_17: true, no_3: true, ..Manners::default() });
    assert!(failure(&record(&bmc)).await.contains("neither cipher suite 17 nor 3"));
    bmc.manners(Manners { weak: true, ..Manners::default() });
    assert!(failure(&record(&bmc)).await.contains("another cipher suite"));
    bmc.manners(Manners { old: true, ..Manners::default() });
    assert!(failure(&record(&bmc)).await.contains("no IPMI 2.0"));
    assert_eq!(bmc.suites(), [17, 3, 17, 3, 17]);
}

#[tokio::test]
async fn each_fault_is_told_and_a_stranger_gets_no_proof() {
    let bmc = FakeIpmi::start().await;
    let mut wrong = record(&bmc);
    wrong.password = "open wheat".into();
    let told = failure(&wrong).await;
    assert!(told.contains("user or the password") && !told.contains("wheat"), "{told}");
    wrong = record(&bmc);
    wrong.spec.username = "root".into();
    assert!(failure(&wrong).await.contains("user or the password"));
    assert_eq!(bmc.proofs(), 0, "nothing made with the password went to one that does not know it");
    bmc.manners(Manners { own_key: true, ..Manners::default() });
    assert!(failure(&record(&bmc)).await.contains("K_G"));
    bmc.manners(Manners { user_only: true, ..Manners::default() });
    assert!(failure(&record(&bmc)).await.contains("OPERATOR"));
    let gone = record(&bmc);
    drop(bmc);
    // The port is closed once the server's task is over.
    let end = Instant::now() + Duration::from_secs(60);
    while !failure(&gone).await.contains("cannot be reached") {
        assert!(Instant::now() < end);
    }
}

#[tokio::test]
async fn what_is_lost_is_sent_again_and_what_is_strange_is_passed_over() {
    let bmc = FakeIpmi::start().await;
    bmc.manners(Manners { noisy: true, ..Manners::default() });
    assert_eq!(test(&record(&bmc)).await.power, Some(BmcPower::On));
    bmc.manners(Manners { drops: 2, ..Manners::default() });
    let lossy = super::Ipmi::new(&record(&bmc)).unwrap();
    // Opened without a loss, it is asked with one.
    bmc.manners(Manners::default());
    super::super::Board::power(&lossy).await.unwrap();
    bmc.manners(Manners { drops: 2, ..Manners::default() });
    assert_eq!(super::super::Board::power(&lossy).await, Ok(BmcPower::On));
    assert_eq!(super::super::Board::power(&lossy).await, Ok(BmcPower::On));
}

#[tokio::test]
async fn silence_and_wrong_codes_prove_nothing_and_end_in_time() {
    let bmc = FakeIpmi::start().await;
    let began = Instant::now();
    bmc.power(false);
    bmc.manners(Manners { silent: true, ..Manners::default() });
    assert!(failure(&record(&bmc)).await.contains("cannot be reached: no answer within"));
    bmc.manners(Manners { tampered: true, ..Manners::default() });
    assert!(failure(&record(&bmc)).await.contains("code of a datagram is wrong"));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

fn yes() -> Result<(), &'static str> {
    Ok(())
}

async fn cut(bmc: &FakeIpmi) -> Fenced {
    carry_out(&record(bmc), Ask::Cut, yes).await
}

#[tokio::test]
async fn a_host_is_switched_off_and_waited_for() {
    let bmc = FakeIpmi::start().await;
    assert_eq!(carry_out(&record(&bmc), Ask::Look, yes).await, Fenced::On);
    assert!(bmc.told().is_empty(), "a look switches nothing");
    bmc.manners(Manners { lingers: 2, ..Manners::default() });
    assert_eq!(cut(&bmc).await, Fenced::Off);
    assert_eq!(bmc.told(), [0]);
    // What is off already is left alone.
    assert_eq!(cut(&bmc).await, Fenced::Off);
    assert_eq!(bmc.told(), [0]);
    bmc.power(true);
    let answer = carry_out(&record(&bmc), Ask::Cut, || Err("it beats again")).await;
    assert!(matches!(answer, Fenced::Failed(why) if why.contains("left on: it beats again")));
    assert_eq!(bmc.told(), [0]);
}

#[tokio::test]
async fn what_is_not_seen_to_be_off_is_not_off() {
    let bmc = FakeIpmi::start().await;
    bmc.change_password("another");
    assert!(matches!(cut(&bmc).await, Fenced::Failed(why) if why.contains("password")));
    let bmc = FakeIpmi::start().await;
    bmc.manners(Manners { refuses: Some(0xCE), ..Manners::default() });
    assert!(matches!(cut(&bmc).await, Fenced::Failed(why) if why.contains("refuses")));
    assert_eq!(bmc.told(), [0]);
    // It says yes and does nothing, for as long as anybody waits.
    bmc.manners(Manners { deaf: true, ..Manners::default() });
    let waited = tokio::time::timeout(Duration::from_secs(3), cut(&bmc)).await;
    assert!(waited.is_err(), "{waited:?}");
}
