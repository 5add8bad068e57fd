//! MSI-X of one function: the vector table and pending bits a guest sees in a BAR, and the signalling a device uses.
//!
//! ```text
//!  guest writes table entry / control ──▶ Msix ──route()──▶ MsiVectors (irqfd)
//!  worker: Interrupts::signal(v) ── vector open? ──yes──▶ eventfd of the vector
//!                                      └─no──▶ pending bit, signalled when the guest opens the vector
//! ```
//! A vector is *open* when MSI-X is enabled and neither the function nor the entry is masked. Invariants: a signal is
//! never lost between a worker and a guest that opens the vector at the same time; routes are only set for open vectors,
//! so an entry half written is never used; any offset and length is answered. PCI Local Bus 3.0 section 6.8.2.

use super::{MsiVectors, Platform};
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use vmm_sys_util::eventfd::EventFd;

/// Capability id of MSI-X.
pub const CAPABILITY_ID: u8 = 0x11;
/// Offset of the message control word inside the capability.
pub const CONTROL: u16 = 2;
/// Bytes of one table entry.
const ENTRY: u64 = 16;
const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_MASK: u16 = 1 << 14;
const VECTOR_MASKED: u32 = 1;

struct Vector {
    open: AtomicBool,
    pending: AtomicBool,
}

struct Shared {
    vectors: Vec<Vector>,
    irqs: Arc<dyn MsiVectors>,
}

/// What of MSI-X is not in configuration space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMsix {
    table: Vec<[u32; 4]>,
    pending: Vec<bool>,
}

/// The table as the vCPU side sees it. Kept inside the device, under the bus's lock.
pub struct Msix {
    /// Address low, address high, data, vector control.
    table: Vec<[u32; 4]>,
    routed: Vec<Option<(u64, u32)>>,
    enabled: bool,
    masked: bool,
    shared: Arc<Shared>,
}

/// Signals vectors from any thread; cheap to clone.
#[derive(Clone)]
pub struct Interrupts {
    shared: Arc<Shared>,
}

impl Interrupts {
    /// Interrupts the guest with `vector`, or remembers it while the guest has the vector masked. Out of range: ignored.
    pub fn signal(&self, vector: u16) {
        let Some(state) = self.shared.vectors.get(usize::from(vector)) else { return };
        if !state.open.load(SeqCst) {
            state.pending.store(true, SeqCst);
            // The guest may have opened the vector between the two lines above and found nothing pending.
            if !state.open.load(SeqCst) || !state.pending.swap(false, SeqCst) {
                return;
            }
        }
        self.shared.inject(vector);
    }
}

impl Shared {
    fn inject(&self, vector: u16) {
        if let Some(event) = self.irqs.event(vector) {
            // Fails only when the counter is full, and then the signal is already on its way.
            let _ = event.write(1);
        }
    }
}

impl Msix {
    /// Reserves `vectors` interrupts (1 to 2048).
    pub fn new(platform: &dyn Platform, vectors: u16) -> io::Result<Self> {
        if !(1..=2048).contains(&vectors) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "MSI-X has 1 to 2048 vectors"));
        }
        let irqs = platform.allocate_msi(vectors)?;
        let states =
            (0..vectors).map(|_| Vector { open: AtomicBool::new(false), pending: AtomicBool::new(false) });
        let shared = Arc::new(Shared { vectors: states.collect(), irqs });
        let count = usize::from(vectors);
        Ok(Self {
            table: vec![[0, 0, 0, VECTOR_MASKED]; count],
            routed: vec![None; count],
            enabled: false,
            masked: false,
            shared,
        })
    }

    /// Body and writable bits for [`super::config::ConfigSpace::add_capability`] with [`CAPABILITY_ID`]. Offsets are
    /// inside their BAR and multiples of 8. After each configuration write the device hands the word at
    /// (capability + [`CONTROL`]) to [`Msix::set_control`].
    #[must_use]
    pub fn capability(&self, table: (u8, u32), pending: (u8, u32)) -> ([u8; 10], [u8; 10]) {
        let mut body = [0; 10];
        // At most 2048 entries, by `new`.
        body[0..2].copy_from_slice(&((self.table.len() as u16) - 1).to_le_bytes());
        body[2..6].copy_from_slice(&((table.1 & !7) | u32::from(table.0 & 7)).to_le_bytes());
        body[6..10].copy_from_slice(&((pending.1 & !7) | u32::from(pending.0 & 7)).to_le_bytes());
        let mut writable = [0; 10];
        writable[0..2].copy_from_slice(&(CONTROL_ENABLE | CONTROL_MASK).to_le_bytes());
        (body, writable)
    }

    /// Bytes of the table.
    #[must_use]
    pub fn table_size(&self) -> u64 {
        self.table.len() as u64 * ENTRY
    }

    /// Bytes of the pending bits.
    #[must_use]
    pub fn pending_size(&self) -> u64 {
        (self.table.len() as u64).div_ceil(64) * 8
    }

    /// The handle by which workers interrupt the guest.
    #[must_use]
    pub fn interrupts(&self) -> Interrupts {
        Interrupts { shared: Arc::clone(&self.shared) }
    }

    /// How many vectors there are.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        // At most 2048, by `new`.
        self.table.len() as u16
    }

    /// The guest takes interrupts of `vector` now, and its route is set.
    #[must_use]
    pub fn is_open(&self, vector: u16) -> bool {
        self.shared.vectors.get(usize::from(vector)).is_some_and(|state| state.open.load(SeqCst))
    }

    /// The event that injects `vector`; none: out of range.
    #[must_use]
    pub fn event(&self, vector: u16) -> Option<&EventFd> {
        self.shared.irqs.event(vector)
    }

    /// MSI-X is enabled by the guest.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Takes the message control word from the capability.
    pub fn set_control(&mut self, control: u16) -> io::Result<()> {
        let (enabled, masked) = (control & CONTROL_ENABLE != 0, control & CONTROL_MASK != 0);
        if (enabled, masked) == (self.enabled, self.masked) {
            return Ok(());
        }
        (self.enabled, self.masked) = (enabled, masked);
        (0..self.table.len()).try_for_each(|i| self.update(i))
    }

    /// Reads the table at byte `offset`; 4 and 8 byte accesses as the specification allows, others byte by byte.
    pub fn table_read(&self, offset: u64, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            let at = offset.saturating_add(i as u64);
            let word = usize::try_from(at / ENTRY).ok().and_then(|e| self.table.get(e));
            let shift = 8 * (at % 4);
            *byte = word.map_or(0xff, |e| (e[(at % ENTRY / 4) as usize] >> shift) as u8);
        }
    }

    /// Writes the table: aligned 4 or 8 bytes; anything else is ignored, as the specification leaves it undefined.
    pub fn table_write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if !matches!(data.len(), 4 | 8) || !offset.is_multiple_of(data.len() as u64) {
            return Ok(());
        }
        let Some((index, entry)) =
            usize::try_from(offset / ENTRY).ok().and_then(|i| self.table.get_mut(i).map(|e| (i, e)))
        else {
            return Ok(());
        };
        let first = (offset % ENTRY / 4) as usize;
        for (word, bytes) in entry[first..].iter_mut().zip(data.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |value, &b| value << 8 | u32::from(b));
        }
        self.update(index)
    }

    /// Reads the pending bits at byte `offset`.
    pub fn pending_read(&self, offset: u64, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            let first = offset.saturating_add(i as u64).saturating_mul(8);
            *byte = (0..8)
                .filter(|bit| {
                    let vector = usize::try_from(first.saturating_add(*bit)).ok();
                    vector.and_then(|v| self.shared.vectors.get(v)).is_some_and(|v| v.pending.load(SeqCst))
                })
                .fold(0, |bits, bit| bits | 1 << bit);
        }
    }

    /// Returns to power-on: disabled, all entries masked and zero, nothing pending.
    pub fn reset(&mut self) -> io::Result<()> {
        (self.enabled, self.masked) = (false, false);
        self.table.fill([0, 0, 0, VECTOR_MASKED]);
        (0..self.table.len()).try_for_each(|i| self.update(i))?;
        self.shared.vectors.iter().for_each(|v| v.pending.store(false, SeqCst));
        for (vector, route) in self.routed.iter_mut().enumerate() {
            if route.take().is_some() {
                self.shared.irqs.unroute(vector as u16)?;
            }
        }
        Ok(())
    }

    /// The table and what is pending, to be given to [`Msix::load`].
    #[must_use]
    pub fn save(&self) -> SavedMsix {
        let pending = self.shared.vectors.iter().map(|vector| vector.pending.load(SeqCst)).collect();
        SavedMsix { table: self.table.clone(), pending }
    }

    /// Takes up a saved table; `control` is the message control word that belongs to it.
    ///
    /// # Errors
    /// It is of another size, or the platform refused a route.
    pub fn load(&mut self, saved: &SavedMsix, control: u16) -> io::Result<()> {
        let count = self.table.len();
        if saved.table.len() != count || saved.pending.len() != count {
            return Err(io::Error::other(format!("{} MSI-X vectors, not {count}", saved.table.len())));
        }
        self.reset()?;
        self.table.clone_from(&saved.table);
        for (vector, pending) in self.shared.vectors.iter().zip(&saved.pending) {
            vector.pending.store(*pending, SeqCst);
        }
        self.set_control(control)
    }

    /// Brings routing and signalling of one vector in line with table and control word.
    fn update(&mut self, index: usize) -> io::Result<()> {
        let (Some(&[low, high, data, control]), Some(routed), Some(state)) =
            (self.table.get(index), self.routed.get_mut(index), self.shared.vectors.get(index))
        else {
            return Ok(());
        };
        let open = self.enabled && !self.masked && control & VECTOR_MASKED == 0;
        if !open {
            // The route stays: an interrupt already on its way may still arrive, as on hardware.
            state.open.store(false, SeqCst);
            return Ok(());
        }
        let route = (u64::from(high) << 32 | u64::from(low), data);
        if *routed != Some(route) {
            self.shared.irqs.route(index as u16, route.0, route.1)?;
            *routed = Some(route);
        }
        state.open.store(true, SeqCst);
        if state.pending.swap(false, SeqCst) {
            self.shared.inject(index as u16);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    type Routes = Arc<Mutex<Vec<Option<(u64, u32)>>>>;

    struct Fake(Routes);
    struct FakeVectors(Routes, Vec<EventFd>);

    impl Platform for Fake {
        fn attach_doorbell(&self, _: u64, _: &EventFd) -> io::Result<()> {
            Ok(())
        }
        fn detach_doorbell(&self, _: u64, _: &EventFd) -> io::Result<()> {
            Ok(())
        }
        fn allocate_msi(&self, vectors: u16) -> io::Result<Arc<dyn MsiVectors>> {
            *self.0.lock().unwrap() = vec![None; usize::from(vectors)];
            let events = (0..vectors).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
            Ok(Arc::new(FakeVectors(Arc::clone(&self.0), events)))
        }
    }

    impl MsiVectors for FakeVectors {
        fn route(&self, vector: u16, address: u64, data: u32) -> io::Result<()> {
            self.0.lock().unwrap()[usize::from(vector)] = Some((address, data));
            Ok(())
        }
        fn unroute(&self, vector: u16) -> io::Result<()> {
            self.0.lock().unwrap()[usize::from(vector)] = None;
            Ok(())
        }
        fn event(&self, vector: u16) -> Option<&EventFd> {
            self.1.get(usize::from(vector))
        }
    }

    fn msix(vectors: u16) -> (Msix, Routes) {
        let routes = Routes::default();
        (Msix::new(&Fake(Arc::clone(&routes)), vectors).unwrap(), routes)
    }

    fn fired(msix: &Msix, vector: u16) -> bool {
        msix.shared.irqs.event(vector).unwrap().read().is_ok()
    }

    fn program(msix: &mut Msix, vector: u64, data: u32) {
        msix.table_write(vector * 16, &0xfee0_1000_u64.to_le_bytes()).unwrap();
        msix.table_write(vector * 16 + 8, &data.to_le_bytes()).unwrap();
        msix.table_write(vector * 16 + 12, &0_u32.to_le_bytes()).unwrap();
    }

    #[test]
    fn an_open_vector_fires_and_a_masked_one_waits() {
        let (mut msix, routes) = msix(2);
        let interrupts = msix.interrupts();
        program(&mut msix, 1, 0x41);
        assert_eq!(routes.lock().unwrap()[1], None, "not before MSI-X is enabled");
        interrupts.signal(1);
        assert!(!fired(&msix, 1));
        let mut pending = [0];
        msix.pending_read(0, &mut pending);
        assert_eq!(pending, [2]);
        msix.set_control(0x8000).unwrap();
        assert_eq!(routes.lock().unwrap()[1], Some((0xfee0_1000, 0x41)));
        assert!(fired(&msix, 1), "what was pending comes when the vector opens");
        interrupts.signal(1);
        assert!(fired(&msix, 1));
        msix.set_control(0xc000).unwrap();
        interrupts.signal(1);
        assert!(!fired(&msix, 1));
        msix.set_control(0x8000).unwrap();
        assert!(fired(&msix, 1));
        msix.reset().unwrap();
        assert_eq!(routes.lock().unwrap()[1], None);
        interrupts.signal(1);
        interrupts.signal(7);
        assert!(!fired(&msix, 1));
    }

    #[test]
    fn no_signal_is_lost_while_the_guest_masks_and_unmasks() {
        let (mut msix, _) = msix(1);
        program(&mut msix, 0, 1);
        msix.set_control(0x8000).unwrap();
        let interrupts = msix.interrupts();
        for _ in 0..2000 {
            std::thread::scope(|scope| {
                scope.spawn(|| interrupts.signal(0));
                msix.table_write(12, &1_u32.to_le_bytes()).unwrap();
                msix.table_write(12, &0_u32.to_le_bytes()).unwrap();
            });
            assert!(fired(&msix, 0));
        }
    }

    proptest! {
        #[test]
        fn any_access_is_answered(
            accesses in prop::collection::vec((any::<u64>(), 0_usize..9, any::<u64>()), 0..40),
            near in prop::collection::vec((0_u64..80, 0_usize..9, any::<u64>()), 0..40),
        ) {
            let (mut msix, _) = msix(4);
            for (offset, length, value) in accesses.into_iter().chain(near) {
                let mut data = value.to_le_bytes();
                let data = &mut data[..length.min(8)];
                msix.table_write(offset, data).unwrap();
                msix.set_control(value as u16).unwrap();
                msix.table_read(offset, data);
                msix.pending_read(offset, data);
            }
        }
    }
}
