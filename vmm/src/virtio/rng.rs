//! virtio-rng: random bytes from the host's kernel (virtio 1.2, 5.4).

use super::{
    Counters, DeviceType, F_COMMON, QueueStates, Queues, VirtioDevice,
    chain::Chain,
    queue::{Broken, DeviceQueue, Pop},
    worker::{BUDGET, Handler, Progress, Worker},
};
use std::{io, sync::Arc};

/// Bytes given for one request at most; the driver asks again for more.
const MAX_BYTES: usize = 4096;

/// The device.
pub struct Rng {
    worker: Worker<Source>,
    counters: Arc<Counters>,
}

struct Source {
    chain: Chain,
    counters: Arc<Counters>,
}

impl Rng {
    /// A stopped device.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "all devices are made by `new`")]
    pub fn new() -> Self {
        let counters = Arc::<Counters>::default();
        let source = Source { chain: Chain::default(), counters: Arc::clone(&counters) };
        Self { worker: Worker::new("virtio-rng", source), counters }
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }
    fn features(&self) -> u64 {
        F_COMMON
    }
    fn queue_sizes(&self) -> &[u16] {
        &[64]
    }
    fn config_read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
    fn start_queues(&mut self, queues: Queues, features: u64) -> io::Result<()> {
        self.worker.start(queues, features)
    }
    fn stop_queues(&mut self) -> QueueStates {
        into_states(self.worker.stop())
    }
}

/// The states of stopped queues.
pub(crate) fn into_states(queues: Queues) -> QueueStates {
    queues.into_iter().map(|queue| queue.map(DeviceQueue::into_state)).collect()
}

impl Handler for Source {
    fn serve(&mut self, queues: &mut Queues, index: usize) -> Result<Progress, Broken> {
        let Some(Some(queue)) = queues.get_mut(index) else { return Ok(Progress::Idle) };
        let memory = queue.memory();
        for _ in 0..BUDGET {
            match queue.pop(&memory, &mut self.chain)? {
                Pop::Empty => {
                    queue.announce(&memory)?;
                    return Ok(if queue.listen(&memory)? { Progress::More } else { Progress::Idle });
                }
                Pop::Malformed => self.counters.error(),
                Pop::Chain => {
                    let mut bytes = [0; MAX_BYTES];
                    let wanted =
                        usize::try_from(self.chain.writable.bytes()).unwrap_or(MAX_BYTES).min(MAX_BYTES);
                    let got = random(&mut bytes[..wanted]);
                    match self.chain.writable.copy_in(&memory, 0, &bytes[..got]) {
                        Ok(()) => {
                            self.counters.read(got as u64);
                            queue.complete(&memory, self.chain.head, got as u32)?;
                        }
                        Err(why) => queue.refuse(&memory, self.chain.head, why)?,
                    }
                }
            }
        }
        queue.announce(&memory)?;
        Ok(Progress::More)
    }
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
