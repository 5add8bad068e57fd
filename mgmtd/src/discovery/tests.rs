use super::{
    browse::hosts,
    message::{Asked, Data, Message, Question},
    respond::answer,
    *,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn announced(name: &str, port: u16) -> Announced {
    Announced {
        id: Uuid::now_v7(),
        name: name.into(),
        version: "0.1.0".into(),
        address: SocketAddrV4::new(LOOPBACK, port),
    }
}

fn asking(name: Name, asked: Asked) -> Message {
    Message { id: 7, questions: vec![Question { name, asked, unicast: false }], ..Message::default() }
}

/// A port nobody else hears the group at.
fn free() -> u16 {
    std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn waiting_hosts_are_found_and_gone_ones_are_not() {
    let port = free();
    let end = CancellationToken::new();
    let all: Vec<Announced> = (1..=3).map(|n| announced(&format!("n{n}"), 7000 + n)).collect();
    let answering: Vec<_> = all.iter().map(|a| tokio::spawn(respond(a.clone(), port, end.clone()))).collect();
    let mut found = Vec::new();
    for _ in 0..20 {
        found = browse(LOOPBACK, port).await.unwrap();
        if found.len() == 3 {
            break;
        }
    }
    let told: Vec<_> = found.iter().map(|h| (h.host.0, h.name.as_str(), h.address.as_str())).collect();
    let wanted: Vec<_> = all.iter().map(|a| (a.id, a.name.clone(), a.address.to_string())).collect();
    assert_eq!(told, wanted.iter().map(|(i, n, a)| (*i, n.as_str(), a.as_str())).collect::<Vec<_>>());
    end.cancel();
    for one in answering {
        one.await.unwrap().unwrap();
    }
    assert_eq!(browse(LOOPBACK, port).await.unwrap(), []);
}

#[tokio::test]
async fn nobody_is_flooded_and_rubbish_is_not_answered() {
    let port = free();
    let end = CancellationToken::new();
    let answering = tokio::spawn(respond(announced("n1", 7001), port, end.clone()));
    while browse(LOOPBACK, port).await.unwrap().is_empty() {}
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let asker = socket(LOOPBACK, None).unwrap();
    let question = asking(service(), Asked::Pointer).encode().unwrap();
    for _ in 0..200 {
        asker.send_to(&question, group(port)).await.unwrap();
        asker.send_to(b"rubbish", group(port)).await.unwrap();
    }
    let (mut answers, mut buffer) = (0, [0u8; 2000]);
    while tokio::time::timeout(Duration::from_millis(300), asker.recv_from(&mut buffer)).await.is_ok() {
        answers += 1;
    }
    assert!((1..=20).contains(&answers), "{answers}");
    end.cancel();
    answering.await.unwrap().unwrap();
}

#[test]
fn only_what_is_meant_is_answered() {
    let us = announced("n1", 7001);
    let from_us = |asked: &Message, port| answer(&us, asked, port, PORT);
    let (told, alone) = from_us(&asking(service(), Asked::Pointer), 40_000).unwrap();
    assert!(alone && told.id == 7 && told.questions.len() == 1);
    assert!(told.records.iter().all(|r| r.ttl <= 10 && !r.unique));
    let (told, alone) = from_us(&asking(service(), Asked::Any), PORT).unwrap();
    assert!(!alone && told.id == 0 && told.questions.is_empty());
    let instance = Name::below(&us.id.to_string(), &service());
    assert!(from_us(&asking(instance.clone(), Asked::Service), PORT).is_some());
    assert!(from_us(&asking(Name::new(&format!("{}.local", us.id)), Asked::Address), PORT).is_some());
    for other in [
        asking(service(), Asked::Text),
        asking(Name::new("_http._tcp.local"), Asked::Pointer),
        asking(instance, Asked::Pointer),
        Message { response: true, ..asking(service(), Asked::Pointer) },
        Message { records: told.records, ..asking(service(), Asked::Pointer) },
    ] {
        assert!(from_us(&other, PORT).is_none(), "{other:?}");
    }
}

#[test]
fn an_answer_that_is_not_whole_or_leads_elsewhere_is_no_host() {
    let us = announced("n1", 7001);
    let mask = Ipv4Addr::new(255, 0, 0, 0);
    let (told, _) = answer(&us, &asking(service(), Asked::Pointer), 40_000, PORT).unwrap();
    assert_eq!(hosts(&told.records, mask, LOOPBACK).len(), 1);
    for left_out in [0, 1, 3] {
        let mut records = told.records.clone();
        records.remove(left_out);
        assert_eq!(hosts(&records, mask, LOOPBACK), [], "{left_out}");
    }
    let mut records = told.records.clone();
    records[3].data = Data::Address(Ipv4Addr::new(192, 0, 2, 9));
    assert_eq!(hosts(&records, mask, LOOPBACK), [], "of another network");
    // Without a text it has its id for a name; what it says of itself is made fit to be shown.
    let mut records = told.records;
    records[2].data = Data::Text(vec![b"name=a\x1b[2Jb".to_vec(), vec![0xff]]);
    assert_eq!(hosts(&records, mask, LOOPBACK)[0].name, "a[2Jb");
    records.remove(2);
    assert_eq!(hosts(&records, mask, LOOPBACK)[0].name, us.id.to_string());
}
