//! Against a service over real TLS, and its faults.

use super::super::{carry_out, test};
use crate::{
    cluster::state::BmcRecord,
    ha::manager::{Ask, Fenced},
};
use fake::{FakeBmc, Manners, PASSWORD, USER};
use lq_api::bmc::{BmcPower, BmcProtocol, BmcSpec};

#[path = "../../../tests/common/bmc.rs"]
mod fake;

fn record(bmc: &FakeBmc) -> BmcRecord {
    let spec = BmcSpec {
        protocol: BmcProtocol::Redfish,
        address: bmc.address.to_string(),
        username: USER.into(),
        certificate: Some(bmc.certificate.clone()),
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
async fn a_service_says_what_it_is_and_whether_that_is_on() {
    let bmc = FakeBmc::start().await;
    let found = test(&record(&bmc)).await;
    assert_eq!((found.power, found.failure), (Some(BmcPower::On), None));
    let machine = found.machine.unwrap();
    assert!(machine.contains("Contoso, 3500RX, serial number 437XR1138R2"), "{machine}");
    bmc.power("Off");
    assert_eq!(test(&record(&bmc)).await.power, Some(BmcPower::Off));
    // On its way is not there.
    bmc.power("PoweringOff");
    assert_eq!(test(&record(&bmc)).await.power, Some(BmcPower::On));
    bmc.manners(Manners { lies: Some("Perhaps"), ..Manners::default() });
    assert!(failure(&record(&bmc)).await.contains("`Perhaps`"));
    assert!(bmc.told().is_empty(), "a test switches nothing");
}

#[tokio::test]
async fn a_certificate_nobody_confirmed_is_shown_and_sent_nothing() {
    let bmc = FakeBmc::start().await;
    for certificate in [None, Some("00".repeat(32))] {
        let mut record = record(&bmc);
        record.spec.certificate = certificate;
        let found = test(&record).await;
        let presented = found.presented.unwrap();
        assert_eq!(presented.replace(':', "").to_lowercase(), bmc.certificate);
        assert!(found.failure.unwrap().contains("the BMC itself shows"));
        assert_eq!(found.power, None);
    }
}

#[tokio::test]
async fn each_fault_is_told() {
    let bmc = FakeBmc::start().await;
    let mut wrong = record(&bmc);
    wrong.password = "open wheat".into();
    let told = failure(&wrong).await;
    assert!(told.contains("user or the password") && !told.contains("wheat"), "{told}");
    let with = |status| Manners { status: Some(status), ..Manners::default() };
    bmc.manners(with(503));
    assert!(failure(&record(&bmc)).await.contains("503"));
    bmc.manners(with(403));
    assert!(failure(&record(&bmc)).await.contains("may not"));
    for elsewhere in ["https://example.org/x", "//example.org/x", "@example.org/x"] {
        bmc.manners(Manners { systems: Some(elsewhere), ..Manners::default() });
        assert!(failure(&record(&bmc)).await.contains("no path of its own"), "{elsewhere}");
    }
    bmc.manners(Manners::default());
    let mut other = record(&bmc);
    other.spec.system = Some("2".into());
    assert!(failure(&other).await.contains("no system `2`"));
    let gone = record(&bmc);
    drop(bmc);
    // The port is closed once the server's task is over.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !failure(&gone).await.contains("cannot be reached") {
        assert!(std::time::Instant::now() < end);
    }
}

#[tokio::test]
async fn of_several_systems_one_is_named() {
    let bmc = FakeBmc::of(&["a", "b"]).await;
    let mut record = record(&bmc);
    assert!(failure(&record).await.contains("several systems, a, b"));
    record.spec.system = Some("b".into());
    let found = test(&record).await;
    assert!(found.machine.unwrap().ends_with("system b"));
}

fn yes() -> Result<(), &'static str> {
    Ok(())
}

async fn cut(bmc: &FakeBmc) -> Fenced {
    carry_out(&record(bmc), Ask::Cut, yes).await
}

#[tokio::test]
async fn a_host_is_switched_off_and_waited_for() {
    let bmc = FakeBmc::start().await;
    assert_eq!(carry_out(&record(&bmc), Ask::Look, yes).await, Fenced::On);
    assert!(bmc.told().is_empty(), "a look switches nothing");
    bmc.manners(Manners { lingers: 2, ..Manners::default() });
    assert_eq!(cut(&bmc).await, Fenced::Off);
    assert_eq!(bmc.told(), ["ForceOff"]);
    // What is off already is left alone.
    assert_eq!(cut(&bmc).await, Fenced::Off);
    assert_eq!(carry_out(&record(&bmc), Ask::Look, yes).await, Fenced::Off);
    assert_eq!(bmc.told(), ["ForceOff"]);
}

#[tokio::test]
async fn nothing_is_cut_where_the_manager_says_no_at_the_last_moment() {
    let bmc = FakeBmc::start().await;
    let answer = carry_out(&record(&bmc), Ask::Cut, || Err("it beats again")).await;
    assert!(matches!(answer, Fenced::Failed(why) if why.contains("left on: it beats again")));
    assert!(bmc.told().is_empty());
}

#[tokio::test]
async fn what_is_not_seen_to_be_off_is_not_off() {
    let bmc = FakeBmc::start().await;
    bmc.change_password("another");
    assert!(matches!(cut(&bmc).await, Fenced::Failed(why) if why.contains("password")));
    let bmc = FakeBmc::start().await;
    bmc.manners(Manners { refuses: true, ..Manners::default() });
    assert!(matches!(cut(&bmc).await, Fenced::Failed(why) if why.contains("refuses")));
    assert_eq!(bmc.told(), ["ForceOff"]);
    // It says yes and does nothing, for as long as anybody waits.
    bmc.manners(Manners { deaf: true, ..Manners::default() });
    let waited = tokio::time::timeout(std::time::Duration::from_secs(3), cut(&bmc)).await;
    assert!(waited.is_err(), "{waited:?}");
}
