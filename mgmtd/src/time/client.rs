//! One question to one server (RFC 5905, section 8, client mode), over a socket of its own from a port nobody knows before.

use super::{
    clock::Clock,
    packet::{Nanos, NoReply, Reply, Stamp, question},
    select::Sample,
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{net::UdpSocket, time::timeout};

/// Longest an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Packets that are no answer to the question, before it is given up.
const STRAY: usize = 16;
/// A server that is so deep does not know the time.
const DEEPEST: u8 = 15;

/// Why a server told no time.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("it did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("it cannot be asked: {0}")]
    Io(#[from] io::Error),
    #[error("its own clock is not set")]
    Unset,
    /// It asks to be left alone, or asked less.
    #[error("it does not serve this host ({})", String::from_utf8_lossy(.0))]
    Kiss([u8; 4]),
    #[error("its answer cannot be used: {0}")]
    Nonsense(&'static str),
}

/// Asks once.
pub(super) async fn ask(server: SocketAddr, clock: &dyn Clock) -> Result<Sample, AskError> {
    let any: SocketAddr = if server.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    // The kernel hands over only what comes from there.
    socket.connect(server).await?;
    let nonce: u64 = rand::random();
    let (began, sent) = (clock.steady(), clock.now());
    socket.send(&question(nonce)).await?;
    let mut buffer = [0u8; 256];
    let waited = timeout(PATIENCE, async {
        for _ in 0..STRAY {
            let length = socket.recv(&mut buffer).await?;
            let ended = clock.steady();
            match buffer.get(..length).map(Reply::parse) {
                // Not to this question: an old answer, or a guess of somebody.
                Some(Ok(reply)) if reply.origin != Stamp(nonce) => {}
                Some(Ok(reply)) => return Ok((reply, ended)),
                Some(Err(NoReply::Short | NoReply::NotAServer)) | None => {}
            }
        }
        Err(AskError::Silent)
    });
    let (reply, ended) = waited.await.unwrap_or(Err(AskError::Silent))?;
    sample(&reply, sent, began, ended)
}

/// What an answer says. The way is measured by the clock that is never set.
pub(super) fn sample(reply: &Reply, sent: Nanos, began: Nanos, ended: Nanos) -> Result<Sample, AskError> {
    if let Some(code) = reply.kiss() {
        return Err(AskError::Kiss(code));
    }
    if reply.leap == 3 || reply.stratum > DEEPEST {
        return Err(AskError::Unset);
    }
    if reply.transmit == Stamp(0) || reply.receive == Stamp(0) {
        return Err(AskError::Nonsense("it has no time in it"));
    }
    let taken = ended - began;
    let (received, transmitted) = (reply.receive.near(sent), reply.transmit.near(sent));
    let inside = transmitted - received;
    if inside < 0 || inside > taken.max(0) + 1_000_000 {
        return Err(AskError::Nonsense("it took longer to answer than the answer took to come"));
    }
    let arrived = sent + taken;
    let offset = ((received - sent) + (transmitted - arrived)) / 2;
    let root = reply.root_delay / 2 + reply.root_dispersion;
    Ok(Sample { offset, delay: (taken - inside).max(0), root, stratum: reply.stratum, at: ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn reply(receive: Nanos, transmit: Nanos) -> Reply {
        Reply {
            leap: 0,
            stratum: 2,
            root_delay: 10 * MS,
            root_dispersion: 5 * MS,
            reference: *b"GPS\0",
            origin: Stamp(1),
            receive: Stamp::of(receive),
            transmit: Stamp::of(transmit),
        }
    }

    #[test]
    fn offset_and_delay_are_those_of_the_standard() {
        let now = 1_800_000_000_000 * MS;
        // This clock is 100 ms behind; 10 ms there, 2 ms inside, 10 ms back.
        let told = sample(&reply(now + 110 * MS, now + 112 * MS), now, 0, 22 * MS).unwrap();
        assert!((told.offset - 100 * MS).abs() < 10, "{told:?}");
        assert!((told.delay - 20 * MS).abs() < 10 && (told.root - 10 * MS).abs() < 10, "{told:?}");
    }

    #[test]
    fn who_does_not_know_the_time_is_not_believed() {
        let now = 1_800_000_000_000 * MS;
        let good = reply(now, now);
        let judged = |r: Reply| sample(&r, now, 0, 10 * MS);
        assert!(judged(good).is_ok());
        assert!(matches!(judged(Reply { leap: 3, ..good }), Err(AskError::Unset)));
        assert!(matches!(judged(Reply { stratum: 16, ..good }), Err(AskError::Unset)));
        assert!(
            matches!(judged(Reply { stratum: 0, reference: *b"RATE", ..good }), Err(AskError::Kiss(k)) if &k == b"RATE")
        );
        assert!(matches!(judged(Reply { transmit: Stamp(0), ..good }), Err(AskError::Nonsense(_))));
        assert!(matches!(judged(reply(now, now - 5 * MS)), Err(AskError::Nonsense(_))));
        assert!(matches!(judged(reply(now, now + 500 * MS)), Err(AskError::Nonsense(_))));
    }
}
