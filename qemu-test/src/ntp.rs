//! A time server (RFC 5905, mode 4) that tells the time of this computer, with an error where one is wanted.

use anyhow::Result;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// Port of the protocol.
pub(crate) const PORT: u16 = 123;
/// From the beginning of the protocol's time (1900) to that of Unix, seconds.
const EPOCH: u64 = 2_208_988_800;

/// A server, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct TimeServer {
    ahead_ms: Arc<AtomicI64>,
    silent: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TimeServer {
    /// Serves at this socket.
    pub(crate) fn at(socket: UdpSocket) -> Self {
        let (ahead_ms, silent) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (ahead, mute) = (ahead_ms.clone(), silent.clone());
        let task = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let question = question.get(..length).unwrap_or_default();
                let Ok(now) = now(ahead.load(Ordering::Relaxed)) else { continue };
                if let Some(answer) = answer(question, now).filter(|_| !mute.load(Ordering::Relaxed)) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { ahead_ms, silent, task }
    }

    /// From now on it tells a time so many milliseconds ahead of the truth.
    pub(crate) fn tell_ahead(&self, ms: i64) {
        self.ahead_ms.store(ms, Ordering::Relaxed);
    }

    /// Whether it answers.
    pub(crate) fn silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }
}

/// The time of this computer in the protocol's form: seconds, and parts of 2⁻³² of one.
fn now(ahead_ms: i64) -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let shifted = i128::try_from(now)? + i128::from(ahead_ms) * 1_000_000;
    let nanos = u128::try_from(shifted)? + u128::from(EPOCH) * 1_000_000_000;
    // The seconds of an era are 32 bits; the rest is cut off, as the protocol wants it.
    Ok(((nanos << 32) / 1_000_000_000) as u64)
}

/// The answer to a question of a client.
fn answer(question: &[u8], now: u64) -> Option<[u8; 48]> {
    let (head, asked) = (question.first()?, question.get(40..48)?);
    let (version, mode) = (head >> 3 & 7, head & 7);
    if mode != 3 {
        return None;
    }
    let mut out = [0; 48];
    let parts: [(usize, &[u8]); 6] = [
        // No warning of a leap second, the client's version, a server; stratum 2, a poll of 2⁶ s, a clock good to 2⁻²⁰ s.
        (0, &[version << 3 | 4, 2, 6, 0xec]),
        // Where its time is from.
        (12, &[192, 0, 2, 1]),
        (16, &now.to_be_bytes()),
        (24, asked),
        (32, &now.to_be_bytes()),
        (40, &now.to_be_bytes()),
    ];
    for (at, bytes) in parts {
        out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_gets_its_own_number_back_and_the_time() {
        let mut question = [0; 48];
        question[0] = 4 << 3 | 3;
        question[40..].copy_from_slice(b"question");
        let answer = answer(&question, 0x0102_0304_0506_0708).unwrap();
        assert_eq!(answer[..2], [4 << 3 | 4, 2]);
        assert_eq!(&answer[24..32], b"question");
        assert_eq!(answer[40..], [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let mut server = [0; 48];
        server[0] = 4 << 3 | 4;
        assert!(answer(&server, 1).is_none());
        assert!(answer(&[4 << 3 | 3; 40], 1).is_none());
    }

    #[test]
    fn the_time_is_of_1900_and_can_be_wrong() {
        let (right, ahead) = (now(0).unwrap(), now(5000).unwrap());
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((right >> 32).abs_diff(unix + EPOCH) <= 1);
        assert!(((ahead - right) >> 32).abs_diff(5) <= 1);
    }
}
