//! NTP packets (RFC 5905, section 7.3) as a client needs them. Pure.

/// Bytes of a packet without extensions.
pub(super) const LENGTH: usize = 48;
/// Seconds from 1900 to 1970.
const UNIX: i128 = 2_208_988_800;
const NANOS: i128 = 1_000_000_000;
/// Nanoseconds of an era: 2³² seconds.
const ERA: i128 = NANOS << 32;

/// A moment in nanoseconds since 1970, TAI or not: leap seconds are the server's to tell.
pub(super) type Nanos = i128;

/// A timestamp as it is sent: seconds since 1900 modulo 2³², and their fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) u64);

impl Stamp {
    /// The moment, in the era in which it is nearest to `about`.
    pub(super) fn near(self, about: Nanos) -> Nanos {
        let within = (i128::from(self.0) * NANOS) >> 32;
        let base = within - UNIX * NANOS;
        let eras = (about - base + ERA / 2).div_euclid(ERA);
        base + eras * ERA
    }
}

/// What a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Of leap seconds to come: 0 to 2; 3: the server's own clock is not set.
    pub(super) leap: u8,
    pub(super) stratum: u8,
    /// Nanoseconds to the source of time and back.
    pub(super) root_delay: Nanos,
    /// Nanoseconds the server may be wrong.
    pub(super) root_dispersion: Nanos,
    /// Whom it follows, or why it does not serve, where the stratum is 0.
    pub(super) reference: [u8; 4],
    /// What was sent in the question.
    pub(super) origin: Stamp,
    pub(super) receive: Stamp,
    pub(super) transmit: Stamp,
}

/// Why a packet is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoReply {
    #[error("it is too short")]
    Short,
    #[error("it is of another version or no answer of a server")]
    NotAServer,
}

/// The question: everything but mode and nonce is zero, so that nothing of this host is told. The nonce comes back as the origin.
pub(super) fn question(nonce: u64) -> [u8; LENGTH] {
    let mut packet = [0u8; LENGTH];
    // No leap, version 4, client.
    packet[0] = 4 << 3 | 3;
    packet[40..48].copy_from_slice(&nonce.to_be_bytes());
    packet
}

impl Reply {
    pub(super) fn parse(packet: &[u8]) -> Result<Self, NoReply> {
        let head: &[u8; LENGTH] =
            packet.get(..LENGTH).and_then(|head| head.try_into().ok()).ok_or(NoReply::Short)?;
        let (leap, version, mode) = (head[0] >> 6, head[0] >> 3 & 7, head[0] & 7);
        if mode != 4 || !(3..=4).contains(&version) {
            return Err(NoReply::NotAServer);
        }
        let word = |at: usize| {
            let bytes = [0, 1, 2, 3].map(|n| head.get(at + n).copied().unwrap_or(0));
            u32::from_be_bytes(bytes)
        };
        let stamp = |at: usize| Stamp(u64::from(word(at)) << 32 | u64::from(word(at + 4)));
        let short = |at: usize| (i128::from(word(at)) * NANOS) >> 16;
        Ok(Self {
            leap,
            stratum: head[1],
            root_delay: short(4),
            root_dispersion: short(8),
            reference: word(12).to_be_bytes(),
            origin: stamp(24),
            receive: stamp(32),
            transmit: stamp(40),
        })
    }

    /// Why the server does not serve (RFC 5905, section 7.4).
    pub(super) fn kiss(&self) -> Option<[u8; 4]> {
        (self.stratum == 0).then_some(self.reference)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Stamp {
        pub(in crate::time) fn of(at: Nanos) -> Self {
            let since = (at + UNIX * NANOS).rem_euclid(ERA);
            Self(u64::try_from((since << 32) / NANOS).unwrap_or(0))
        }
    }

    /// The answer of a server.
    pub(in crate::time) fn answer(reply: &Reply) -> [u8; LENGTH] {
        let mut packet = [0u8; LENGTH];
        packet[0] = reply.leap << 6 | 4 << 3 | 4;
        packet[1] = reply.stratum;
        let short = |ns: Nanos| u32::try_from((ns << 16) / NANOS).unwrap().to_be_bytes();
        packet[4..8].copy_from_slice(&short(reply.root_delay));
        packet[8..12].copy_from_slice(&short(reply.root_dispersion));
        packet[12..16].copy_from_slice(&reply.reference);
        for (at, stamp) in [(24, reply.origin), (32, reply.receive), (40, reply.transmit)] {
            packet[at..at + 8].copy_from_slice(&stamp.0.to_be_bytes());
        }
        packet
    }

    #[test]
    fn eras_are_told_apart_by_the_moment_they_are_near() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond();
        for text in
            ["1970-01-01T00:00:00Z", "2026-11-27T02:00:00Z", "2036-02-07T06:28:17Z", "2040-01-01T00:00:00Z"]
        {
            let moment = at(text);
            assert!((Stamp::of(moment).near(moment) - moment).abs() <= 1, "{text}");
            // With a clock that is wrong by years it is still the right era.
            assert!((Stamp::of(moment).near(moment - 60 * ERA / 136) - moment).abs() <= 1, "{text}");
        }
        // The first second of the second era.
        assert_eq!(Stamp::of(at("2036-02-07T06:28:16Z")), Stamp(0));
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read(leap in 0u8..4, stratum: u8, delay in 0i64..1 << 40, reference: [u8; 4], stamps: [u64; 3]) {
            let [origin, receive, transmit] = stamps.map(Stamp);
            let root = Nanos::from(delay);
            let reply =
                Reply { leap, stratum, root_delay: root, root_dispersion: root, reference, origin, receive, transmit };
            let read = Reply::parse(&answer(&reply)).unwrap();
            prop_assert!((read.root_delay - root).abs() < 20_000);
            prop_assert_eq!(Reply { root_delay: root, root_dispersion: root, ..read }, reply);
        }

        #[test]
        fn rubbish_is_refused_or_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Reply::parse(&bytes);
        }
    }

    #[test]
    fn only_a_server_is_heard() {
        assert_eq!(Reply::parse(&[0; 47]), Err(NoReply::Short));
        assert_eq!(Reply::parse(&question(1)), Err(NoReply::NotAServer));
        let mut packet = question(1);
        packet[0] = 1 << 3 | 4;
        assert_eq!(Reply::parse(&packet), Err(NoReply::NotAServer));
        packet[0] = 3 << 3 | 4;
        assert_eq!(Reply::parse(&packet).unwrap().kiss(), Some([0; 4]));
    }
}
