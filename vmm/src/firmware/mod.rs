//! What a machine has that boots by firmware, besides the devices every machine has. A machine that boots a kernel directly
//! has none of it.
//!
//! ```text
//!  4 GiB ┬ code flash (read only, mapped from its file)   ports 0x510–0x51b  fw_cfg: what the firmware is told
//!        ├ variable flash (mapped for reads;                    0x608–0x60b  ACPI timer
//!        │   writes come here and go to its file)               0x402        firmware's debug port, where asked for
//! ```
//! The firmware is stock OVMF for Q35: a code file that ends at the reset vector, and under it a copy of its variable
//! template that belongs to this machine alone.
//!
//! Owns: the two flashes and their memory slots, fw_cfg and its files, the timer. Invariant: what the firmware was told to
//! be stored is in the variable file before the vCPU goes on (see [`flash`]).

pub mod files;
pub mod flash;
pub mod fw_cfg;
pub mod loader;
pub mod mapping;
pub mod timer;

use crate::{
    acpi,
    boot::Told,
    display::ramfb::Screen,
    legacy::power,
    memory,
    memory::{Memory, PciMap},
    pci::{q35, root::Ecam},
    smbios::Identity,
    state::{self, State, description::Firmware},
};
use flash::Flash;
use fw_cfg::FwCfg;
use std::{
    fs::File,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use timer::Timer;

/// Bytes kept of what firmware says on its debug port.
const DEBUG_LOG_ROOM: u64 = 1 << 20;
const DEBUG_PORT: u16 = 0x402;
/// What the debug port reads where it is: firmware looks for it.
const DEBUG_PORT_THERE: u8 = 0xe9;
/// Flash never begins below.
const FLASH_FLOOR: u64 = memory::ABOVE_4G - (16 << 20);
/// Offset of the 16-bit power management control in the ACPI registers, and its bit that switches off.
const PM_CONTROL: u16 = 4;
const PM_CONTROL_SLEEP: u8 = 1 << 5;

/// Opened files.
#[derive(Debug)]
pub struct Sources {
    /// Firmware code, read only.
    pub code: File,
    /// The machine's variables, writable.
    pub vars: File,
    /// Where the debug port's output goes.
    pub debug_log: Option<File>,
}

/// Why a machine cannot have its firmware.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or mapped.
    #[error("cannot read the firmware's {what}")]
    Read {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file has an impossible size.
    #[error(
        "the firmware's {what} of {size} bytes is not a multiple of 4096 bytes up to 16 MiB, both together"
    )]
    Size {
        /// Which.
        what: &'static str,
        /// Its size.
        size: u64,
    },
    /// There is no new generation id.
    #[error("cannot make the machine's generation id")]
    Generation(#[source] io::Error),
    /// The files of fw_cfg are too many or have names too long.
    #[error("cannot tell the firmware what it needs")]
    FwCfg(#[from] fw_cfg::Error),
}

/// Maps memory the guest may read without leaving it, and whose writes leave it.
pub trait ReadWindow: Send {
    /// The guest reads what `mapping` holds at guest-physical `base`.
    ///
    /// # Errors
    /// The host refused.
    fn map(&self, base: u64, mapping: &mapping::Mapping) -> io::Result<()>;
    /// The guest's reads leave it.
    ///
    /// # Errors
    /// The host refused.
    fn unmap(&self) -> io::Result<()>;
}

/// What the firmware is told about the machine besides its files.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Processors.
    pub vcpus: u8,
    /// Bytes of memory.
    pub ram: u64,
    /// Address bits of the processors.
    pub address_bits: u32,
    /// What its tables tell besides.
    pub told: Told,
    /// Which one it is.
    pub identity: Identity,
    /// Boot order: OpenFirmware paths, first to last.
    pub boot_order: Vec<String>,
    /// Its screen, where it has one.
    pub screen: Option<Screen>,
}

/// The parts.
pub struct Platform {
    fw_cfg: Mutex<FwCfg>,
    vars: Mutex<Flash>,
    vars_base: u64,
    sizes: Firmware,
    timer: Timer,
    debug_log: Option<Mutex<(File, u64)>>,
    /// Held for as long as the guest may read it.
    _code: (mapping::Mapping, Box<dyn ReadWindow + Sync>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(what: &'static str, file: &File) -> Result<u64, Error> {
    let size = file.metadata().map_err(|source| Error::Read { what, source })?.len();
    if size == 0 || !size.is_multiple_of(4096) || size > memory::ABOVE_4G - FLASH_FLOOR {
        return Err(Error::Size { what, size });
    }
    Ok(size)
}

impl Platform {
    /// Puts the parts together: code ends at 4 GiB, variables lie under it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(
        sources: Sources,
        machine: &Machine,
        guest: Memory,
        ecam: Arc<Ecam>,
        code_window: Box<dyn ReadWindow + Sync>,
        vars_window: Box<dyn ReadWindow>,
    ) -> Result<Self, Error> {
        const CODE: &str = "code";
        const VARS: &str = "variables";
        let (code_size, vars_size) = (size(CODE, &sources.code)?, size(VARS, &sources.vars)?);
        let code_base = memory::ABOVE_4G - code_size;
        let vars_base = code_base - vars_size;
        if vars_base < FLASH_FLOOR {
            return Err(Error::Size { what: VARS, size: vars_size });
        }
        let failed = |what| move |source| Error::Read { what, source };
        let code = mapping::Mapping::of_file(&sources.code, code_size).map_err(failed(CODE))?;
        code_window.map(code_base, &code).map_err(failed(CODE))?;
        let vars = Flash::new(sources.vars, vars_size, vars_base, vars_window).map_err(failed(VARS))?;
        let (vcpus, ram, bits, told) =
            (machine.vcpus, machine.ram, machine.address_bits, machine.told.clone());
        // The tables tell where the ECAM is, so they are made when the firmware asks for them: it has moved it by then.
        let tables = move || {
            let pci = PciMap::by_firmware(memory::extent(ram, told.pluggable), ecam.range(), bits);
            loader::files(&acpi::relocatable(&acpi::Board {
                vcpus,
                pci,
                keyboard: true,
                panic: told.panic,
                fixed_slots: told.fixed_slots,
                present: told.cpus.as_ref().map(|cpus| cpus.present()),
                tpm: told.tpm,
                generation: acpi::generation::OFFSET,
            }))
        };
        let generation = acpi::generation::page().map_err(Error::Generation)?;
        Ok(Self {
            fw_cfg: Mutex::new(files::fw_cfg(machine, guest, generation, Box::new(tables))?),
            vars: Mutex::new(vars),
            vars_base,
            sizes: Firmware { code_bytes: code_size, vars_bytes: vars_size },
            timer: Timer::new(),
            debug_log: sources.debug_log.map(|file| Mutex::new((file, 0))),
            _code: (code, code_window),
        })
    }

    /// There are so many processors from now on.
    pub fn set_vcpus(&self, count: u16) {
        lock(&self.fw_cfg).add(fw_cfg::VCPUS, count.to_le_bytes().to_vec());
    }

    /// A port is read. False: none of these.
    pub fn port_read(&self, port: u16, data: &mut [u8]) -> bool {
        match port {
            fw_cfg::FIRST..=fw_cfg::LAST => lock(&self.fw_cfg).read(port, data),
            timer::PORT..=timer::LAST => self.timer.read(port - timer::PORT, data),
            DEBUG_PORT if self.debug_log.is_some() => data.fill(DEBUG_PORT_THERE),
            _ => return false,
        }
        true
    }

    /// A port is written. `None`: none of these; `Some(true)`: the guest switches itself off.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Option<bool> {
        const CONTROL: u16 = power::BASE + PM_CONTROL;
        const { assert!(power::BASE == q35::PM_BASE, "one base for both kinds of registers") };
        match port {
            fw_cfg::FIRST..=fw_cfg::LAST => lock(&self.fw_cfg).write(port, data),
            // How firmware for Q35 switches off: without regard to the type of sleep.
            CONTROL => return Some(data.get(1).is_some_and(|high| high & PM_CONTROL_SLEEP != 0)),
            DEBUG_PORT => self.debug(data),
            _ => return None,
        }
        Some(false)
    }

    fn debug(&self, data: &[u8]) {
        let Some(log) = &self.debug_log else { return };
        let (file, written) = &mut *lock(log);
        if *written < DEBUG_LOG_ROOM {
            *written += data.len() as u64;
            // For people who look into firmware; a full disk is told elsewhere.
            let _ = file.write_all(data);
        }
    }

    /// Memory is read. False: not here.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some(offset) = self.vars_offset(address) else { return false };
        lock(&self.vars).read(offset, data)
    }

    /// Memory is written. False: not here. Writes to the code flash go nowhere.
    pub fn memory_write(&self, address: u64, data: &[u8]) -> bool {
        let Some(offset) = self.vars_offset(address) else { return false };
        lock(&self.vars).write(offset, data)
    }

    fn vars_offset(&self, address: u64) -> Option<u64> {
        (self.vars_base..memory::ABOVE_4G).contains(&address).then(|| address - self.vars_base)
    }

    /// Everything the guest wrote into flash is in its file afterwards.
    pub fn settle(&self) {
        lock(&self.vars).settle();
    }

    /// Where the firmware has put the generation id; none: it has not come to that.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        let address = lock(&self.fw_cfg).file(loader::GENERATION_ADDRESS_FILE)?.try_into().ok();
        address.map(u64::from_le_bytes).filter(|address| *address != 0)
    }

    /// What a machine that is to become this one must have too.
    #[must_use]
    pub fn describe(&self) -> Firmware {
        self.sizes.clone()
    }

    /// Adds the state of the parts.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn save(&self, state: &mut State) -> Result<(), state::Error> {
        state.put(0, &lock(&self.fw_cfg).save())?;
        state.put(0, &lock(&self.vars).save())?;
        state.put(0, &self.timer.save())
    }

    /// Takes up a state. The variable file is left alone until [`Platform::settle`]. Guest memory is there already.
    ///
    /// # Errors
    /// It is not one of these parts.
    pub fn load(&self, state: &mut State) -> Result<(), state::Error> {
        lock(&self.vars).load(&state.take(0)?)?;
        self.timer.load(state.take(0)?);
        lock(&self.fw_cfg).load(state.take(0)?)
    }

    /// Back to power-on. What is in flash stays.
    pub fn reset(&self) {
        lock(&self.vars).reset();
        lock(&self.fw_cfg).reset();
    }
}
