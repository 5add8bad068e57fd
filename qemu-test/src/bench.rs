//! `vmm-bench`: lq-vmm beside QEMU's microvm, on one nested host in one run, taking turns, the same guest.
//!
//! The host is a kernel with busybox; the monitors lie on its disk with what they need (QEMU from the machine's own package).
//! QEMU gets its best: the small firmware, and a clock chip, without which the kernel polls a missing one 20,000 times.
//! Measured from the start of the process to the guest's first line from user space; see `lq-fault measure`.

use crate::{
    accel::{self, Accel},
    guest_image::{self, GuestImages},
    nested::{self, Tree},
    paths::Paths,
    process::{command, run},
    qemu::{Machine, Running},
};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::local::vmm::BootFiles;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

const GUEST_MIB: u64 = 128;
/// A host that stands still after so many rounds has said enough.
const FEWEST: u32 = 3;
/// The guest's first line from user space.
const WORD: &str = "tiny: user space";

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Process start to the guest's user space.
    pub(crate) seconds: f64,
    /// Memory beyond the guest's own.
    pub(crate) overhead_mib: f64,
    /// Exits from the guest, as the kernel counts; absent where it does not.
    pub(crate) exits: Option<f64>,
    /// All the kernel counts of the machine, by its names.
    pub(crate) counts: BTreeMap<String, f64>,
}

/// Measurements of the monitors, by name (`lq-vmm`, `microvm`), round by round.
pub(crate) type Samples = BTreeMap<String, Vec<Sample>>;

/// Runs it and prints a table.
pub(crate) async fn run_bench(paths: &Paths, rounds: u32) -> Result<Samples> {
    let accel = accel::decide().await?;
    let images = guest_image::ensure(paths).await?;
    let dir = paths.target.join("bench");
    let machine = bench_host(paths, &images, &dir, rounds, accel).await?;
    println!("vmm-bench: {rounds} rounds and one to warm up …");
    let mut running = machine.start().await?;
    let mut whole = 0;
    let outcome = rounds_end(&running, rounds, &mut whole).await;
    let samples = parse(&running.serial.all(), whole)?;
    match outcome {
        Ok(()) => running.wait_end(60).await?,
        // Emulated nested processors stand still now and then; what was measured before stays true.
        Err(error) if accel == Accel::Tcg && whole >= FEWEST => {
            println!(
                "vmm-bench: the host stood still after {whole} of {rounds} rounds, which are used: {error:#}"
            );
            running.kill().await;
        }
        Err(error) => return Err(error.context(format!("{whole} of {rounds} rounds were measured"))),
    }
    print_table(&samples);
    Ok(samples)
}

/// Waits for each round's end and counts those that were measured whole, without the one that warms up.
async fn rounds_end(running: &Running, rounds: u32, whole: &mut u32) -> Result<()> {
    for round in 0..=rounds {
        running.serial.expect(&format!("RESULT {round} microvm"), 150).await?;
        *whole = round;
    }
    running.serial.expect("bench: end", 30).await.map(drop)
}

async fn bench_host(
    paths: &Paths,
    images: &GuestImages,
    dir: &Path,
    rounds: u32,
    accel: Accel,
) -> Result<Machine> {
    let tree = Tree::new(paths, images, dir)?;
    let qemu = Path::new("/usr/bin/qemu-system-x86_64");
    tree.place(qemu, "usr/bin/qemu-system-x86_64")?;
    for library in libraries(qemu).await? {
        tree.place(&library, &library.display().to_string())?;
    }
    for name in ["bios-microvm.bin", "qboot.rom", "linuxboot_dma.bin", "pvh.bin", "kvmvapic.bin"] {
        // Several are links into the firmware's own package.
        let from = ["/usr/share/qemu", "/usr/share/seabios"].map(|d| Path::new(d).join(name));
        if let Some(from) = from.iter().find(|f| f.exists()) {
            tree.place(from, &format!("usr/share/qemu/{name}"))?;
        }
    }
    let words = format!("console=ttyS0 quiet panic=-1 reboot=k tiny=off {}", accel.kernel_words());
    let files = BootFiles {
        kernel: "/guest/vmlinuz".into(),
        initrd: Some("/guest/initrd".into()),
        cmdline: words.clone(),
    };
    let config = nested::config("bench", GUEST_MIB, files);
    tree.write("lq.json", &serde_json::to_string_pretty(&config)?)?;
    tree.host(images, accel, &bench_script(rounds, &words), 512).await
}

/// The libraries a program is linked with, and its loader.
async fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut list = command("ldd");
    list.arg(program);
    let text = run(list, "ldd").await?;
    let found: Vec<PathBuf> =
        text.split_whitespace().filter(|w| w.starts_with('/')).map(PathBuf::from).collect();
    ensure!(!found.is_empty(), "ldd names no libraries of {}", program.display());
    Ok(found)
}

fn bench_script(rounds: u32, words: &str) -> String {
    use lq_api::local::paths::VM_CONSOLE;
    format!(
        "export PATH=/bin\nbusybox mkdir -p /run/lq\n\
         lq() {{ /lq-fault measure '{WORD}' {GUEST_MIB} --socket /run/lq/{VM_CONSOLE} -- /lq-vmm run --config /lq.json; }}\n\
         microvm() {{ /lq-fault measure '{WORD}' {GUEST_MIB} -- /usr/bin/qemu-system-x86_64 -M microvm,rtc=on \
         -bios /usr/share/qemu/qboot.rom -enable-kvm -cpu host \
         -m {GUEST_MIB} -nodefaults -no-user-config -display none -no-reboot -serial stdio -kernel /guest/vmlinuz \
         -initrd /guest/initrd -append '{words}'; }}\n\
         n=0\nwhile [ $n -le {rounds} ]; do\n\
         echo \"RESULT $n lq-vmm $(lq 2>&1 | busybox tail -n 1)\"\n\
         echo \"RESULT $n microvm $(microvm 2>&1 | busybox tail -n 1)\"\n\
         n=$((n + 1))\ndone\n"
    )
}

/// Reads the results up to round `whole`; round 0 warmed the caches and is left out.
fn parse(console: &str, whole: u32) -> Result<Samples> {
    let mut samples = Samples::new();
    for line in console.lines().filter_map(|l| l.trim().strip_prefix("RESULT ")) {
        let mut words = line.split_whitespace();
        let (Some(round), Some(name)) = (words.next(), words.next()) else {
            bail!("the benchmark said `{line}`")
        };
        let round: u32 = round.parse().with_context(|| format!("the benchmark said `{line}`"))?;
        if round == 0 || round > whole {
            continue;
        }
        let rest: Vec<&str> = words.collect();
        let number = |key: &str| -> Result<f64> {
            let value = rest.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
            value.and_then(|v| v.parse().ok()).with_context(|| format!("{name} failed: {}", rest.join(" ")))
        };
        let exits = number("exits")?;
        let sample = Sample {
            seconds: number("seconds")?,
            overhead_mib: number("overhead_kib")? / 1024.0,
            exits: (exits >= 0.0).then_some(exits),
            counts: counts(&rest),
        };
        samples.entry(name.to_owned()).or_default().push(sample);
    }
    ensure!(!samples.is_empty(), "the benchmark has no results:\n{console}");
    Ok(samples)
}

/// The kernel's counts in the words of a measurement.
fn counts(words: &[&str]) -> BTreeMap<String, f64> {
    let all = words.iter().find_map(|w| w.strip_prefix("counts=")).unwrap_or_default();
    let one = |count: &str| {
        let (name, value) = count.split_once(':')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    all.split(',').filter_map(one).collect()
}

/// Middle value; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => sorted.get(n / 2).copied().unwrap_or_default(),
        _ => sorted.get(n / 2 - 1..=n / 2).unwrap_or_default().iter().sum::<f64>() / 2.0,
    }
}

/// One quantity of all samples of a monitor.
pub(crate) fn column(samples: &Samples, name: &str, of: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
    samples.get(name).into_iter().flatten().filter_map(of).collect()
}

/// Ratio of lq-vmm to microvm, round by round.
pub(crate) fn ratios(samples: &Samples, of: impl Fn(&Sample) -> Option<f64> + Copy) -> Vec<f64> {
    let (ours, theirs) = (column(samples, "lq-vmm", of), column(samples, "microvm", of));
    ours.iter().zip(&theirs).map(|(a, b)| a / b).collect()
}

fn spread(values: &[f64], digits: usize) -> String {
    let (low, high) =
        (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max));
    if values.is_empty() {
        return "-".into();
    }
    format!("{:.digits$} ({low:.digits$} to {high:.digits$})", median(values))
}

fn print_table(samples: &Samples) {
    println!("{:10} {:>26} {:>26} {:>30}", "monitor", "start to user space, s", "overhead, MiB", "exits");
    for name in samples.keys() {
        println!(
            "{name:10} {:>26} {:>26} {:>30}",
            spread(&column(samples, name, |s| Some(s.seconds)), 2),
            spread(&column(samples, name, |s| Some(s.overhead_mib)), 1),
            spread(&column(samples, name, |s| s.exits), 0)
        );
    }
    println!(
        "{:10} {:>26} {:>26} {:>30}",
        "ratio",
        spread(&ratios(samples, |s| Some(s.seconds)), 2),
        spread(&ratios(samples, |s| Some(s.overhead_mib)), 2),
        spread(&ratios(samples, |s| s.exits), 2)
    );
    print_counts(samples);
}

/// What lies behind the exits: the kernel's counts, the middle of all rounds.
fn print_counts(samples: &Samples) {
    let names: BTreeSet<&String> = samples.values().flatten().flat_map(|s| s.counts.keys()).collect();
    for name in names {
        let of = |monitor: &String| {
            let values = column(samples, monitor, |s| Some(s.counts.get(name).copied().unwrap_or_default()));
            format!("{monitor} {:.0}", median(&values))
        };
        println!("  {name:32} {}", samples.keys().map(of).collect::<Vec<_>>().join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_without_the_round_that_warms_up() {
        let said = "x\nRESULT 0 lq-vmm seconds=9.0 overhead_kib=9 exits=9\nRESULT 1 lq-vmm seconds=2.5 overhead_kib=4096 exits=2500 counts=exits:2500,io_exits:70\n\
                    RESULT 1 microvm seconds=5.0 overhead_kib=40960 exits=-1\n\
                    RESULT 2 lq-vmm seconds=3.0 overhead_kib=4096 exits=2500\n";
        let samples = parse(said, 1).unwrap();
        let counts = BTreeMap::from([("exits".to_owned(), 2500.0), ("io_exits".to_owned(), 70.0)]);
        assert_eq!(
            samples["lq-vmm"],
            [Sample { seconds: 2.5, overhead_mib: 4.0, exits: Some(2500.0), counts }]
        );
        assert_eq!(ratios(&samples, |s| Some(s.seconds)), [0.5]);
        assert!(ratios(&samples, |s| s.exits).is_empty());
        assert!(
            parse("RESULT 1 lq-vmm lq-vmm: cannot open /dev/kvm\n", 1)
                .unwrap_err()
                .to_string()
                .contains("/dev/kvm")
        );
    }

    #[test]
    fn the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
