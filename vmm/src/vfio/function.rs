//! A function of the host on the machine's bus.
//!
//! ```text
//!              ┌ ours ─▶ space ─▶ what it asks for: decode BARs, interrupts, bus master, reset
//!  config ─────┤
//!              └ its own ──────────────────────────▶ backend
//!  BAR ────────┬ whole pages of it ─▶ memory of the guest, nobody is asked
//!              ├ MSI-X table ───────▶ interrupts
//!              └ all else ──────────▶ backend
//! ```
//! The function is awake and decodes its memory for as long as the machine is there; where, only the guest's bus knows. While
//! the machine is paused the function goes on with what its driver gave it to do: only a reset would stop it.

use super::{
    Backend, Place, Windows,
    interrupts::Interrupts,
    layout::{Area, Layout, table_offset},
    space::{COMMAND, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, COMMAND_MEMORY, Effect, Space},
};
use crate::{
    pci::{BarRequest, ConfigEffect, PciDevice, Platform},
    state::{self, State, description::Device},
    virtio::Report,
};
use lq_api::pci::PciAddress;
use std::{fmt, io};

/// What such a device is called in descriptions of machines.
pub const KIND: &str = "vfio-pci";

/// The function.
pub struct Function {
    address: PciAddress,
    backend: Box<dyn Backend>,
    space: Space,
    interrupts: Interrupts,
    windows: Box<dyn Windows>,
    areas: Vec<Area>,
    /// Areas that are shown.
    shown: Vec<bool>,
    report: Report,
}

impl Function {
    /// Puts the function at `address` of the host behind our bus.
    ///
    /// # Errors
    /// The host refused.
    pub fn new(
        address: PciAddress,
        backend: Box<dyn Backend>,
        layout: Layout,
        windows: Box<dyn Windows>,
        platform: &dyn Platform,
    ) -> io::Result<Self> {
        let Layout { space, areas } = layout;
        let interrupts = Interrupts::new(&space, platform)?;
        let shown = vec![false; areas.len()];
        let report = Report::new(format!("PCI function {address}"));
        let mut function = Self { address, backend, space, interrupts, windows, areas, shown, report };
        function.command()?;
        if !function.backend.resets() {
            function.say(format_args!(
                "it cannot be reset alone: after a restart of the guest it is as its driver left it"
            ));
        }
        Ok(function)
    }

    fn say(&mut self, message: fmt::Arguments<'_>) {
        self.report.say(message);
    }

    fn settle(&mut self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.say(format_args!("{what}: {error}"));
        }
    }

    /// Tells the function what of its command register is the guest's to say.
    fn command(&self) -> io::Result<()> {
        let master = if self.space.bus_master() { COMMAND_BUS_MASTER } else { 0 };
        let command = COMMAND_MEMORY | COMMAND_INTX_DISABLE | master;
        self.backend.write(Place::Config, COMMAND.into(), &command.to_le_bytes())
    }

    fn follow(&mut self, effect: Effect) {
        if effect.bus_master {
            let done = self.command();
            self.settle("bus master", done);
        }
        if effect.msi || effect.msix {
            let done = self.interrupts.follow(&self.space, &*self.backend);
            self.settle("interrupts", done);
        }
    }

    /// Everything to power-on but where BARs are shown: the bus asks for that.
    fn power_on(&mut self) {
        self.space.reset();
        // It reaches no memory from here on.
        let quiet = self.command();
        self.settle("bus master", quiet);
        let done = self.interrupts.reset(&*self.backend);
        self.settle("interrupts", done);
        if self.backend.resets() {
            let done = self.backend.reset();
            self.settle("reset", done);
            let done = self.command();
            self.settle("command", done);
        }
    }
}

impl PciDevice for Function {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        if self.space.asks(offset, data.len())
            && let Err(error) = self.backend.read(Place::Config, offset.into(), data)
        {
            data.fill(0xff);
            self.say(format_args!("reading configuration: {error}"));
        }
        self.space.overlay(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigEffect {
        let Self { space, backend, .. } = self;
        let mut passed = Ok(());
        let effect = space.write(offset, data, |offset, data| {
            let written = backend.write(Place::Config, offset.into(), data);
            passed = std::mem::replace(&mut passed, Ok(())).and(written);
        });
        self.settle("writing configuration", passed);
        if effect.reset {
            self.power_on();
            return ConfigEffect::BarsChanged;
        }
        self.follow(effect);
        if effect.bars { ConfigEffect::BarsChanged } else { ConfigEffect::None }
    }

    fn bars(&self) -> Vec<BarRequest> {
        let request = |bar: &super::space::Bar| BarRequest { bar: bar.bar, size: bar.size, wide: bar.wide };
        self.space.bars().iter().map(request).collect()
    }

    fn bar_moved(&mut self, bar: u8, base: Option<u64>) -> io::Result<()> {
        let mut result = Ok(());
        for (index, (area, shown)) in self.areas.iter().zip(&mut self.shown).enumerate() {
            if area.bar == bar && std::mem::take(shown) {
                result = result.and(self.windows.hide(index));
            }
        }
        let Some(base) = base else { return result };
        for (index, (area, shown)) in self.areas.iter().zip(&mut self.shown).enumerate() {
            // What cannot be shown is trapped.
            if area.bar == bar && result.is_ok() {
                result = self.windows.show(index, base.wrapping_add(area.range.start));
                *shown = result.is_ok();
            }
        }
        result
    }

    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        if let Some(offset) = table_offset(&self.space, bar, offset, data.len()) {
            self.interrupts.table_read(offset, data);
        } else if let Err(error) = self.backend.read(Place::Bar(bar), offset, data) {
            data.fill(0xff);
            self.say(format_args!("reading BAR {bar} at {offset:#x}: {error}"));
        }
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        if let Some(offset) = table_offset(&self.space, bar, offset, data.len()) {
            let done = self.interrupts.table_write(offset, data, &*self.backend);
            self.settle("MSI-X", done);
        } else if let Err(error) = self.backend.write(Place::Bar(bar), offset, data) {
            self.say(format_args!("writing BAR {bar} at {offset:#x}: {error}"));
        }
    }

    fn pause(&mut self) {}

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn resume(&mut self) {}

    fn reset(&mut self) {
        self.power_on();
    }

    fn describe(&self) -> Device {
        let mut config = vec![0; 4];
        self.space.overlay(0, &mut config);
        Device { kind: KIND.to_owned(), config, ..Device::default() }
    }

    fn save(&mut self, _: u32, _: &mut State) -> Result<(), state::Error> {
        Err(state::Error::Unsettled(format!(
            "the PCI function {} of the host (devices.passthrough) keeps its state to itself",
            self.address
        )))
    }

    fn load(&mut self, slot: u32, _: &mut State) -> Result<(), state::Error> {
        let problem = "a PCI function of the host (devices.passthrough) cannot take up a state".to_owned();
        Err(state::Error::Invalid { kind: KIND.to_owned(), id: slot, problem })
    }
}
