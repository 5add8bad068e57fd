//! Pairing between clusters in one process: real TLS over loopback, a man in the middle among them.

use super::{super::many_tests::Host, *};
use crate::cluster::Op;
use lq_api::{
    ImageId,
    image::{CreateImage, ImageFormat, ImageKind, ImageSpec},
    problem::Kind,
};
use std::sync::Arc;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn silent(_: String) {}

/// A host that waits, and its code.
async fn waiting() -> (Host, String) {
    let host = Host::new().await;
    host.cluster.may_be_paired();
    let code = host.cluster.pairing().code.unwrap();
    (host, code)
}

async fn pair(cluster: &Host, address: &str, code: &str) -> Result<Paired, PairError> {
    cluster.cluster.pair(address, None, code, false, &silent).await
}

/// Brings the waiting host back as the member it became, while the other side waits for it.
async fn paired(cluster: &Host, host: Host, code: &str) -> (Host, Paired) {
    let (inviting, address, code) = (cluster.cluster.clone(), host.address.to_string(), code.to_owned());
    let asked =
        tokio::spawn(async move { inviting.pair(&address, None, &code, false, &silent).await.unwrap() });
    host.cluster.again.cancelled().await;
    let host = host.restart().await;
    (host, asked.await.unwrap())
}

fn refusal(e: &PairError) -> u16 {
    match e {
        PairError::Refused(problem) => problem.status,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_code_brings_a_host_in_once() {
    let first = Host::new().await;
    let (second, code) = waiting().await;
    let id = second.id();
    let wrong = pair(&first, &second.address.to_string(), "2222-2222").await.unwrap_err();
    assert_eq!(refusal(&wrong), Kind::Forbidden.parts().2);
    assert!(wrong.to_string().contains("2 more"), "{wrong}");
    assert_eq!(second.cluster.pairing().wrong_guesses, 1);
    assert!(matches!(
        pair(&first, &second.address.to_string(), "short").await.unwrap_err(),
        PairError::NotACode
    ));
    let other =
        first.cluster.pair(&second.address.to_string(), Some(first.id()), &code, false, &silent).await;
    assert!(matches!(other.unwrap_err(), PairError::AnotherHost(_)));

    let (second, paired) = paired(&first, second, &code.to_lowercase()).await;
    assert_eq!((paired.host, paired.arrived), (id, true));
    second.until("it knows both", |c| c.read(|s| s.hosts.len() == 2)).await;
    assert!(first.cluster.read(|s| s.join_tokens.values().all(|t| t.token.uses_left == 0)), "it is used up");
    // A member does not wait.
    second.cluster.may_be_paired();
    assert_eq!(second.cluster.look_at_pairing(), Err(NotWaiting::Member));
    assert_eq!(second.cluster.pairing().code, None);
    let (third, _) = waiting().await;
    let late = pair(&third, &second.address.to_string(), &code).await.unwrap_err();
    assert_eq!(refusal(&late), Kind::Conflict.parts().2, "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_guesses_end_a_code() {
    let first = Host::new().await;
    let (second, code) = waiting().await;
    let address = second.address.to_string();
    for left in ["2 more", "1 more", "0 more"] {
        let wrong = pair(&first, &address, "2222-2222").await.unwrap_err();
        assert!(wrong.to_string().contains(left), "{wrong}");
    }
    let rests = pair(&first, &address, &code).await.unwrap_err();
    assert_eq!(refusal(&rests), Kind::RateLimited.parts().2, "{rests}");
    assert_ne!(second.cluster.pairing().code.unwrap(), code);
    assert_eq!(second.cluster.wrong_codes(), 3);
    assert!(first.cluster.read(|s| s.join_tokens.is_empty() && s.hosts.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_between_with_another_certificate_gets_nothing() {
    let first = Host::new().await;
    let (second, code) = waiting().await;
    // They take connections with a certificate of their own, and pass everything on over one to the waiting host.
    let theirs = Host::new().await;
    let acceptor = TlsAcceptor::from(theirs.cluster.peer_tls().unwrap());
    let seen = Arc::default();
    let out = TlsConnector::from(super::super::wire::tests_stranger(seen).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (between, target) = (listener.local_addr().unwrap(), second.address);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, out) = (acceptor.clone(), out.clone());
            tokio::spawn(async move {
                let mut from = acceptor.accept(tcp).await.unwrap();
                let name = "x.lq.internal".try_into().unwrap();
                let mut to = out.connect(name, TcpStream::connect(target).await.unwrap()).await.unwrap();
                let _ = copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let cheated = pair(&first, &between.to_string(), &code).await.unwrap_err();
    assert_eq!(refusal(&cheated), Kind::Forbidden.parts().2, "{cheated}");
    assert_eq!(second.cluster.pairing().wrong_guesses, 1, "it counts as a guess");
    assert!(first.cluster.read(|s| s.join_tokens.is_empty() && s.hosts.len() == 1));
    // Whoever answers without knowing the code at all proves nothing either.
    let (liar, _) = waiting().await;
    let wrong = pair(&first, &liar.address.to_string(), &code).await.unwrap_err();
    assert_eq!(refusal(&wrong), Kind::Forbidden.parts().2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_clusters_at_once_one_has_it() {
    let (first, second) = (Host::new().await, Host::new().await);
    let (third, code) = waiting().await;
    let address = third.address.to_string();
    let spawn = |host: &Host| {
        let (cluster, address, code) = (host.cluster.clone(), address.clone(), code.clone());
        tokio::spawn(async move { cluster.pair(&address, None, &code, false, &silent).await })
    };
    let (one, two) = (spawn(&first), spawn(&second));
    third.cluster.again.cancelled().await;
    let third = third.restart().await;
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    let (won, lost) = match (one, two) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => panic!("{both:?}"),
    };
    assert_eq!(won.host, third.id());
    assert!(
        matches!(&lost, PairError::Refused(p) if [404, 409].contains(&p.status))
            || matches!(lost, PairError::Call(_)),
        "{lost}"
    );
    let members = [&first, &second].map(|h| h.cluster.read(|s| s.hosts.len()));
    assert!(members == [2, 1] || members == [1, 2], "{members:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_admission_leaves_the_host_waiting_with_another_code() {
    let first = Host::new().await;
    let (second, code) = waiting().await;
    // Where the cluster says it can be joined, nobody answers.
    let host = first.id();
    let peer = crate::cluster::Peer { pin: first.cluster.pin().unwrap(), address: "127.0.0.1:1".into() };
    first.cluster.write(Op::DescribeHost { host, peer, capacity: None }).await.unwrap();
    let failed = pair(&first, &second.address.to_string(), &code).await.unwrap_err();
    assert_eq!(refusal(&failed), Kind::Unavailable.parts().2, "{failed}");
    let now = second.cluster.pairing();
    assert!(now.waiting && !now.joining);
    assert_ne!(now.code.unwrap(), code);
    assert!(first.cluster.read(|s| s.join_tokens.is_empty()), "its token is revoked");
    second.write("goes-on").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_things_of_their_own_is_opened_first_and_who_keeps_nothing_never_waits() {
    let host = Host::new().await;
    assert_eq!(host.cluster.look_at_pairing(), Err(NotWaiting::Live));
    assert_eq!(host.cluster.open_pairing(true), Err(NotWaiting::Live));
    host.cluster.may_be_paired();
    assert_eq!(host.cluster.look_at_pairing(), Ok(()));
    let spec = ImageSpec {
        kind: ImageKind::Disk,
        format: ImageFormat::Raw,
        pool: host.cluster.read(|s| s.pools.keys().next().copied()),
        sha256: None,
        boot: None,
    };
    let create = CreateImage { name: "mine".into(), labels: Default::default(), spec };
    host.cluster.write(Op::CreateImage { id: ImageId::new(), create }).await.unwrap();
    assert_eq!(host.cluster.look_at_pairing(), Err(NotWaiting::InUse));
    assert!(!host.cluster.pairing().waiting && host.cluster.pairing().code.is_none());
    host.cluster.open_pairing(true).unwrap();
    let opened = host.cluster.pairing();
    assert!(opened.waiting && opened.opened_until.is_some() && opened.code.is_some());
    host.cluster.open_pairing(false).unwrap();
    assert!(!host.cluster.pairing().waiting);
}
