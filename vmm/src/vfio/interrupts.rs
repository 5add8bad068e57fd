//! The function's interrupts: its vectors signal the events that KVM injects, without us.
//!
//! Invariants: a vector is connected only while the guest has it open and its route is set; one that is not keeps its interrupt
//! pending in the function itself, so that none is lost and the guest reads the function's own pending bits.

use super::{
    Backend, Signal,
    space::{Message, Space},
};
use crate::pci::{MsiVectors, Platform, msix::Msix};
use std::{io, sync::Arc};
use vmm_sys_util::eventfd::EventFd;

/// All of them.
pub(super) struct Interrupts {
    msix: Option<Table>,
    msi: Option<Single>,
}

struct Table {
    msix: Msix,
    /// By vector; none: MSI-X is off in the function.
    connected: Option<Vec<bool>>,
}

struct Single {
    vectors: Arc<dyn MsiVectors>,
    connected: Option<Message>,
}

impl Interrupts {
    pub(super) fn new(space: &Space, platform: &dyn Platform) -> io::Result<Self> {
        let table =
            |vectors| Ok::<_, io::Error>(Table { msix: Msix::new(platform, vectors)?, connected: None });
        let single =
            |most| Ok::<_, io::Error>(Single { vectors: platform.allocate_msi(most)?, connected: None });
        Ok(Self {
            msix: space.msix().map(|msix| table(msix.vectors)).transpose()?,
            msi: space.msi().map(|msi| single(msi.most)).transpose()?,
        })
    }

    /// Brings all in line with what the guest has written to configuration space.
    pub(super) fn follow(&mut self, space: &Space, backend: &dyn Backend) -> io::Result<()> {
        // Whichever is switched off goes first: a function has one kind at a time.
        let message = space.message_set();
        let single = |msi: &mut Option<Single>| msi.as_mut().map_or(Ok(()), |msi| msi.set(message, backend));
        let table = |msix: &mut Option<Table>| {
            msix.as_mut().map_or(Ok(()), |table| {
                table.msix.set_control(space.msix_control())?;
                table.connect(backend)
            })
        };
        if message.is_some() {
            table(&mut self.msix).and(single(&mut self.msi))
        } else {
            single(&mut self.msi).and(table(&mut self.msix))
        }
    }

    pub(super) fn table_read(&self, offset: u64, data: &mut [u8]) {
        if let Some(table) = &self.msix {
            table.msix.table_read(offset, data);
        }
    }

    pub(super) fn table_write(&mut self, offset: u64, data: &[u8], backend: &dyn Backend) -> io::Result<()> {
        let Some(table) = &mut self.msix else { return Ok(()) };
        table.msix.table_write(offset, data)?;
        table.connect(backend)
    }

    /// Returns to power-on.
    pub(super) fn reset(&mut self, backend: &dyn Backend) -> io::Result<()> {
        let mut result = Ok(());
        if let Some(single) = &mut self.msi {
            result = result.and(single.set(None, backend));
        }
        if let Some(table) = &mut self.msix {
            result = result.and(table.msix.reset()).and(table.connect(backend));
        }
        result
    }
}

impl Table {
    fn connect(&mut self, backend: &dyn Backend) -> io::Result<()> {
        let Self { msix, connected } = self;
        if !msix.enabled() {
            return connected.take().map_or(Ok(()), |_| backend.disconnect(Signal::MsiX));
        }
        let event = |vector: u16| msix.event(vector).filter(|_| msix.is_open(vector));
        let Some(connected) = connected else {
            let events: Vec<Option<&EventFd>> = (0..msix.vectors()).map(event).collect();
            backend.connect(Signal::MsiX, 0, &events)?;
            *connected = Some(events.iter().map(Option::is_some).collect());
            return Ok(());
        };
        for (vector, connected) in (0..).zip(connected) {
            let event = event(vector);
            if event.is_some() != *connected {
                backend.connect(Signal::MsiX, vector, &[event])?;
                *connected = event.is_some();
            }
        }
        Ok(())
    }
}

impl Single {
    fn set(&mut self, message: Option<Message>, backend: &dyn Backend) -> io::Result<()> {
        if message == self.connected {
            return Ok(());
        }
        let count = |message: Option<Message>| message.map_or(0, |message| message.vectors);
        let recount = count(message) != count(self.connected);
        if recount && self.connected.take().is_some() {
            backend.disconnect(Signal::Msi)?;
        }
        if let Some(Message { address, data, vectors }) = message {
            // The function says which of them by the lowest bits.
            for vector in 0..vectors {
                let data = data & !u32::from(vectors - 1) | u32::from(vector);
                self.vectors.route(vector, address, data)?;
            }
            if recount {
                let events: Vec<_> = (0..vectors).map(|vector| self.vectors.event(vector)).collect();
                backend.connect(Signal::Msi, 0, &events)?;
            }
        }
        self.connected = message;
        Ok(())
    }
}
