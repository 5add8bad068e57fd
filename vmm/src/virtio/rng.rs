//! virtio-rng: random bytes from the host's kernel (virtio 1.2, 5.4).

use super::{
    Counters, DeviceType, F_COMMON, Queues,
    chain::{Chain, Malformed},
    queue::Broken,
    served::{Answer, Facts, Served, serve_chains},
    worker::{Handler, Progress},
};
use crate::memory::Memory;
use std::{io, sync::Arc};

/// Bytes given for one request at most; the driver asks again for more.
const MAX_BYTES: usize = 4096;

/// The device.
pub type Rng = Served<Source>;

/// Its work.
pub struct Source {
    chain: Chain,
    counters: Arc<Counters>,
}

impl Served<Source> {
    /// A stopped device.
    #[must_use]
    pub fn new() -> Self {
        let facts = Facts {
            kind: DeviceType::Rng,
            features: F_COMMON,
            queue_sizes: vec![64],
            config: Arc::new(Vec::new()),
            written: None,
        };
        Self::build(facts, |counters| Source { chain: Chain::default(), counters })
    }
}

impl Handler for Source {
    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(index) else { return Ok(Progress::Idle) };
        serve_chains(queue, &mut self.chain, |memory, chain| {
            give(memory, chain, &self.counters).map(Answer::Written)
        })
    }
}

fn give(memory: &Memory, chain: &Chain, counters: &Counters) -> Result<u32, Malformed> {
    let mut bytes = [0; MAX_BYTES];
    let wanted = usize::try_from(chain.writable.bytes()).unwrap_or(MAX_BYTES).min(MAX_BYTES);
    let got = random(&mut bytes[..wanted]);
    chain.writable.copy_in(memory, 0, &bytes[..got])?;
    counters.read(got as u64);
    Ok(got as u32)
}

/// Fills the beginning of `buffer` with random bytes; returns how many.
fn random(buffer: &mut [u8]) -> usize {
    loop {
        // SAFETY: `buffer` is valid for writes of its length.
        let got = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => return got.min(buffer.len()),
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return 0,
        }
    }
}
