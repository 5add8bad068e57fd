//! How the machines that stand for bare metal are accelerated.
//!
//! Guests run inside the host under test, so the host's processor must offer virtualization itself: hardware virtualization
//! with nesting, or QEMU's own emulation of an AMD processor with SVM, which works anywhere and is slow. Found out by trying,
//! because a `/dev/kvm` alone says little. `LQ_E2E_ACCEL=tcg|kvm` decides by hand.

use crate::process::command;
use anyhow::{Context as _, Result, bail};
use std::{
    arch::x86_64::_rdtsc,
    fs,
    path::Path,
    process::Stdio,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// A way to run machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    /// Hardware virtualization with nesting.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Accel {
    /// QEMU's words for it.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"],
        }
    }

    /// Whether all threads of a machine in which guests run have to share one processor here. QEMU 7.2 changes what interrupts
    /// wait for an emulated processor with virtualization from several threads without a lock; where these truly ran at once,
    /// a guest began anew some time after a move in half of the runs, and now and then the host stood still or its kernel
    /// died in the thread that runs the guest (endless page faults at `mov cr2`, the end of its stack overwritten).
    pub(crate) fn guests_on_one_core(self) -> bool {
        self == Self::Tcg
    }

    /// Words a kernel needs on such a machine. An emulated processor loses the race against its own timers when the real one is
    /// busy: the kernel then gives up on the timer, or calibrates its clock wrongly. The true rate is told instead.
    pub(crate) fn kernel_words(self) -> String {
        match self {
            Self::Kvm => String::new(),
            Self::Tcg => format!("no_timer_check tsc=reliable tsc_early_khz={}", tsc_khz()),
        }
    }
}

/// Where Debian's QEMU keeps its emulator.
const EMULATOR: &str = "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so";
/// The begin of its `tcg_handle_interrupt`; `None`: any byte. The last one jumps over a failed assertion where a lock is held.
#[rustfmt::skip]
const HANDLE_INTERRUPT: [Option<u8>; 19] = {
    let any = None;
    [
        Some(0x55), Some(0x89), Some(0xf5), Some(0x53), Some(0x48), Some(0x89), Some(0xfb), Some(0x48), Some(0x83),
        Some(0xec), Some(0x08), Some(0xe8), any, any, any, any, Some(0x84), Some(0xc0), Some(0x75),
    ]
};
const JUMP_ALWAYS: u8 = 0xeb;

/// Makes a copy of QEMU's emulator in `dir` (for `QEMU_MODULE_DIR`) that bears guests with firmware inside a guest, where
/// it is one that does not: QEMU 7.2 aborts when such a guest writes CR8 while an interrupt waits for it, because it
/// raises the virtual interrupt without the lock its own assertion asks for. False: another QEMU; it is used as it is.
pub(crate) fn patient_emulator(dir: &Path) -> Result<bool> {
    let Ok(mut module) = fs::read(EMULATOR) else { return Ok(false) };
    let matches =
        |window: &[u8]| window.iter().zip(HANDLE_INTERRUPT).all(|(b, wanted)| wanted.is_none_or(|w| w == *b));
    let found: Vec<usize> = module
        .windows(HANDLE_INTERRUPT.len())
        .enumerate()
        .filter(|(_, window)| matches(window))
        .map(|(at, _)| at + HANDLE_INTERRUPT.len() - 1)
        .collect();
    let [at] = found.as_slice() else { return Ok(false) };
    if let Some(jump) = module.get_mut(*at) {
        *jump = JUMP_ALWAYS;
    }
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let copy = dir.join("accel-tcg-x86_64.so");
    fs::write(&copy, module).with_context(|| format!("writing {}", copy.display()))?;
    Ok(true)
}

/// Decides, once.
pub(crate) async fn decide() -> Result<Accel> {
    static DECIDED: OnceLock<Accel> = OnceLock::new();
    if let Some(accel) = DECIDED.get() {
        return Ok(*accel);
    }
    let accel = match std::env::var("LQ_E2E_ACCEL").as_deref() {
        Ok("tcg") => Accel::Tcg,
        Ok("kvm") => Accel::Kvm,
        Ok(other) if !other.is_empty() => bail!("LQ_E2E_ACCEL is `{other}`; it may be `tcg` or `kvm`"),
        _ if nesting_offered() && kvm_boots().await => Accel::Kvm,
        _ => Accel::Tcg,
    };
    Ok(*DECIDED.get_or_init(|| accel))
}

/// The processor has virtualization, and its driver passes it on to guests.
fn nesting_offered() -> bool {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = cpu
        .lines()
        .find(|l| l.starts_with("flags"))
        .is_some_and(|l| l.split_whitespace().any(|f| f == "vmx" || f == "svm"));
    let nested = ["kvm_intel", "kvm_amd"].iter().any(|module| {
        fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
            .is_ok_and(|v| matches!(v.trim(), "1" | "Y"))
    });
    has && nested && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// A machine with KVM gets its firmware as far as looking for something to boot.
async fn kvm_boots() -> bool {
    let mut qemu = command("qemu-system-x86_64");
    qemu.args(Accel::Kvm.arguments())
        .args(["-M", "q35", "-m", "128", "-nodefaults", "-display", "none", "-no-user-config"])
        .args(["-chardev", "stdio,id=firmware", "-device", "isa-debugcon,iobase=0x402,chardev=firmware"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut child) = qemu.spawn() else { return false };
    let Some(mut said) = child.stdout.take() else { return false };
    let wait = async {
        use tokio::io::AsyncReadExt as _;
        let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = said.read(&mut chunk).await {
            text.extend(chunk.get(..n).unwrap_or_default());
            if String::from_utf8_lossy(&text).contains("No bootable device") {
                return true;
            }
        }
        false
    };
    let boots = tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or(false);
    crate::process::kill(&mut child).await;
    boots
}

/// Rate of this machine's time stamp counter in kHz, measured over half a second.
pub(crate) fn tsc_khz() -> u64 {
    static RATE: OnceLock<u64> = OnceLock::new();
    *RATE.get_or_init(|| {
        // SAFETY: every x86-64 processor has RDTSC; it reads a register and touches no memory.
        let read = || unsafe { _rdtsc() };
        let (time, from) = (Instant::now(), read());
        std::thread::sleep(Duration::from_millis(500));
        let (elapsed, to) = (time.elapsed(), read());
        u64::try_from(u128::from(to - from) * 1_000_000 / elapsed.as_nanos().max(1)).unwrap_or(u64::MAX)
    })
}
