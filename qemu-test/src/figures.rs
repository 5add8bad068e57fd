//! `figures`: measures the product and writes `target/figures.json` (flat names to numbers) and from it `docs/figures.md`.

use crate::{
    accel::{self, Accel},
    bench,
    fault::{Fault, Process},
    host::explain,
    media,
    paths::{Paths, need},
    process::{command, run},
    scale,
};
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream};
use lq_api::{
    client::Client,
    image::{CreateImage, ImageFormat, ImageKind, ImageSpec},
    meta::MetadataPatch,
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Clients at once when the API is measured.
const CLIENTS: usize = 8;
const API_SECONDS: u64 = 15;
/// Requests of one kind, at most: both kinds together stay below what a caller may ask at a stretch (6,000).
const API_REQUESTS: u64 = 2_500;

type Figures = BTreeMap<&'static str, f64>;

/// Every figure: name, what it is, budget where there is one.
const ABOUT: &[(&str, &str, &str)] = &[
    ("iso.size_mb", "Size of the ISO, 10⁶ bytes", "≤ 250"),
    (
        "boot.kernel_to_ready_s",
        "Start of the installed host's kernel to `/ready`, seconds",
        "≤ 8 without emulation",
    ),
    ("boot.cpu_s", "Processor time of that, kernel and user, seconds", ""),
    ("boot.kernel_cpu_s", "… of it in the kernel", ""),
    (
        "idle.memory_mib",
        "Memory in use on an idle host, kernel included (MemTotal − MemAvailable), MiB",
        "≤ 350",
    ),
    ("idle.processes_mib", "… of it our processes (sum of PSS), MiB", ""),
    ("idle.mgmtd_mib", "… of it mgmtd, MiB", ""),
    ("idle.cpu_percent", "Processor time of all our processes on an idle host, % of one processor", ""),
    (
        "vmm.start_to_userspace_s",
        "lq-vmm's start to its guest's first line from user space, seconds (median)",
        "",
    ),
    ("vmm.microvm_start_to_userspace_s", "The same of QEMU microvm", ""),
    ("vmm.start_ratio", "lq-vmm / microvm, median over rounds", "≤ 1"),
    ("vmm.overhead_mib", "Memory of lq-vmm beyond the guest's own, MiB", "≤ 5"),
    ("vmm.microvm_overhead_mib", "The same of QEMU microvm", ""),
    ("vmm.exits", "Exits of the guest until its user space, lq-vmm", "≤ 2600"),
    ("vmm.microvm_exits", "The same of QEMU microvm", ""),
    ("webui.first_load_gzip_kb", "What a browser loads first of the web page, gzipped, 10³ bytes", "≤ 250"),
    ("webui.total_gzip_kb", "All of the web page, gzipped, 10³ bytes", "≤ 700"),
    ("api.read_rps", "API reads (GET of one object) per second, 8 clients", ""),
    ("api.read_p99_ms", "99 of 100 of them answered within, ms", ""),
    ("api.write_rps", "API writes (committed by raft to disk) per second, 8 clients", ""),
    ("api.write_p99_ms", "99 of 100 of them answered within, ms", ""),
];

/// What `just figures-scale` measures, on the machine itself: taken over from the file it has left.
const SCALE: &[(&str, &str, &str)] = &[
    ("placement.one_vm_ms", "Placing one machine among 96 hosts with 8,000 machines, ms (median)", "≤ 1"),
    ("placement.one_ruled_vm_ms", "The same with a rule", "≤ 1"),
    ("balance.best_move_ms", "The best move for balance there, ms (median)", "≤ 10"),
    ("ha.restart_plan_ms", "Places for all machines of 8 of these hosts, ms (median)", "≤ 50"),
    ("ha.restart_plan_machines", "… how many these are", ""),
    ("ha.look_ms", "What the leader does four times a second there, ms (median)", "≤ 25"),
    ("state.memory_mb", "Memory of the agreed state there, 10⁶ bytes", "≤ 200"),
    ("watch.1000_told_ms", "From a write until 1,000 watchers were told, ms (median)", "≤ 250"),
    ("log.entries_kept", "Entries of the log kept after 12,000 writes", "≤ 2500"),
    ("log.growth", "Its size after 12,000 writes, by that after 6,000", "≤ 1.5"),
    ("log.mb", "Its size, 10⁶ bytes", "≤ 64"),
    ("history.mb_per_machine", "Charts of a machine on disk after two years, 10⁶ bytes", "≤ 1"),
    ("history.growth", "Their size after two years, by that after one", "≤ 1.5"),
];

/// Measures everything and writes both files.
pub(crate) async fn measure(paths: &Paths, rounds: u32) -> Result<()> {
    let accel = accel::decide().await?;
    let mut figures = Figures::new();
    let iso = paths.iso();
    need(&iso, "make it with `just iso`")?;
    figures.insert("iso.size_mb", fs::metadata(&iso)?.len() as f64 / 1e6);
    page_figures(paths, &mut figures).await?;
    host_figures(paths, accel, &mut figures).await?;
    let samples = bench::run_bench(paths, rounds).await?;
    let mut middle = |name, values: Vec<f64>| {
        if !values.is_empty() {
            figures.insert(name, bench::median(&values));
        }
    };
    middle("vmm.start_to_userspace_s", bench::column(&samples, "lq-vmm", |s| Some(s.seconds)));
    middle("vmm.microvm_start_to_userspace_s", bench::column(&samples, "microvm", |s| Some(s.seconds)));
    middle("vmm.start_ratio", bench::ratios(&samples, |s| Some(s.seconds)));
    middle("vmm.overhead_mib", bench::column(&samples, "lq-vmm", |s| Some(s.overhead_mib)));
    middle("vmm.microvm_overhead_mib", bench::column(&samples, "microvm", |s| Some(s.overhead_mib)));
    middle("vmm.exits", bench::column(&samples, "lq-vmm", |s| s.exits));
    middle("vmm.microvm_exits", bench::column(&samples, "microvm", |s| s.exits));

    let json = paths.target.join("figures.json");
    let before = fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let before: BTreeMap<String, f64> = before.unwrap_or_default();
    figures.extend(SCALE.iter().filter_map(|(name, ..)| Some((*name, *before.get(*name)?))));
    fs::write(&json, serde_json::to_string_pretty(&figures)? + "\n").context("writing figures.json")?;
    let page = paths.repo.join("docs/figures.md");
    fs::create_dir_all(paths.repo.join("docs"))?;
    fs::write(&page, markdown(&figures, accel, &commit(paths).await)).context("writing docs/figures.md")?;
    for (name, about, budget) in ABOUT.iter().chain(SCALE) {
        if let Some(value) = figures.get(name) {
            println!(
                "{name:34} {value:10.2}  {about}{}",
                if budget.is_empty() { String::new() } else { format!("  [{budget}]") }
            );
        }
    }
    println!("figures: {} and {}", json.display(), page.display());
    Ok(())
}

/// Sizes of the built web page, by the script that also holds it to its budget.
async fn page_figures(paths: &Paths, figures: &mut Figures) -> Result<()> {
    let mut node = command("node");
    node.current_dir(paths.repo.join("webui")).args(["scripts/size.mjs", "--json"]);
    let sums: BTreeMap<String, f64> =
        serde_json::from_str(&run(node, "size.mjs").await?).context("what size.mjs printed")?;
    let mut kb = |name, sum: &str| -> Result<()> {
        figures.insert(name, sums.get(sum).with_context(|| format!("size.mjs told no `{sum}`"))? / 1e3);
        Ok(())
    };
    kb("webui.first_load_gzip_kb", "first")?;
    kb("webui.total_gzip_kb", "all")
}

async fn host_figures(paths: &Paths, accel: Accel, figures: &mut Figures) -> Result<()> {
    let dir = paths.e2e().join("figures");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let base = media::installed_disk(paths, accel).await?;
    let clone = |name: &'static str| {
        let (base, path) = (base.clone(), dir.join(name));
        async move { media::clone_disk(&base, &path).await }
    };
    let machine = |disk| crate::qemu::Machine { disks: vec![disk], ..media::bare_metal(&dir, accel) };
    // The first boot makes certificates and state; the figure is of an ordinary one.
    let first = clone("disk.qcow2").await?;
    let mut host = media::boot_installed(machine(first.clone())).await?;
    host.machine.press_power().await?;
    host.machine.wait_end(180).await?;

    println!("figures: booting the installed host …");
    let host = crate::host::Host::boot(machine(first)).await?;
    let mut fault = host.fault().await?;
    let uptime = fault.ask("cat /proc/uptime").await?;
    let stat = fault.ask("cat /proc/stat").await?;
    let uptime: f64 =
        uptime.split_whitespace().next().and_then(|n| n.parse().ok()).context("/proc/uptime")?;
    let (user, system) = cpu_seconds(&stat).context("/proc/stat")?;
    figures.insert("boot.kernel_to_ready_s", uptime);
    figures.insert("boot.cpu_s", user + system);
    figures.insert("boot.kernel_cpu_s", system);

    println!("figures: an idle host …");
    tokio::time::sleep(scale::seconds(30)).await;
    let before = ours(&mut fault).await?;
    let idle = Duration::from_secs(20);
    tokio::time::sleep(idle).await;
    let after = ours(&mut fault).await?;
    let total = fault.number("/proc/meminfo", "MemTotal").await?;
    let available = fault.number("/proc/meminfo", "MemAvailable").await?;
    let ticks = |all: &[Process]| all.iter().map(|p| p.ticks).sum::<u64>();
    let mib = |all: &[&Process]| all.iter().map(|p| p.pss_kib).sum::<u64>() as f64 / 1024.0;
    figures.insert("idle.memory_mib", (total - available) as f64 / 1024.0);
    figures.insert("idle.processes_mib", mib(&after.iter().collect::<Vec<_>>()));
    figures.insert("idle.mgmtd_mib", mib(&after.iter().filter(|p| p.name == "mgmtd").collect::<Vec<_>>()));
    let used = ticks(&after).saturating_sub(ticks(&before)) as f64 / 100.0;
    figures.insert("idle.cpu_percent", used / idle.as_secs_f64() * 100.0);
    for process in &after {
        let ticks = before.iter().find(|p| p.pid == process.pid).map_or(0, |p| p.ticks);
        let percent = process.ticks.saturating_sub(ticks) as f64 / idle.as_secs_f64();
        println!("  {:16} {percent:6.2} % {:8.2} MiB", process.name, process.pss_kib as f64 / 1024.0);
    }

    println!("figures: the API …");
    host.login(media::PASSWORD).await?;
    api_figures(&host.api, figures).await
}

/// Our processes: those with memory, without the agent that looks.
async fn ours(fault: &mut Fault) -> Result<Vec<Process>> {
    Ok(fault.processes().await?.into_iter().filter(|p| p.pss_kib > 0 && p.name != "lq-fault").collect())
}

/// User and kernel seconds of all processors since the boot.
fn cpu_seconds(stat: &str) -> Option<(f64, f64)> {
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|w| w.parse().ok()).collect();
    // user nice system idle iowait irq softirq
    let [user, nice, system, _idle, _iowait, irq, soft, ..] = ticks.as_slice() else { return None };
    Some(((user + nice) as f64 / 100.0, (system + irq + soft) as f64 / 100.0))
}

async fn api_figures(api: &Client, figures: &mut Figures) -> Result<()> {
    // Images that are declared and never filled: objects nothing else on the host reacts to.
    let mut images = Vec::new();
    for n in 0..CLIENTS {
        let spec = ImageSpec {
            kind: ImageKind::Kernel,
            format: ImageFormat::Raw,
            pool: None,
            sha256: None,
            boot: None,
        };
        let request = CreateImage { name: format!("load-{n}"), labels: BTreeMap::new(), spec };
        images.push(api.create_image(&request).await.map_err(explain)?.meta.id);
    }
    let ids = &images;
    let (rps, p99) = load(|client, _| async move {
        api.image(*ids.get(client).context("a client")?).await.map_err(explain).map(drop)
    })
    .await?;
    figures.insert("api.read_rps", rps);
    figures.insert("api.read_p99_ms", p99);
    let (rps, p99) = load(|client, n| async move {
        let labels = Some(BTreeMap::from([("n".to_owned(), n.to_string())]));
        let change = MetadataPatch { labels, ..MetadataPatch::default() };
        api.update_image(*ids.get(client).context("a client")?, &change, None)
            .await
            .map_err(explain)
            .map(drop)
    })
    .await?;
    figures.insert("api.write_rps", rps);
    figures.insert("api.write_p99_ms", p99);
    Ok(())
}

/// Keeps the clients busy for a while: requests per second and the 99th percentile in milliseconds.
async fn load<F: Future<Output = Result<()>>>(request: impl Fn(usize, u64) -> F) -> Result<(f64, f64)> {
    let times = RefCell::new(Vec::new());
    let failed = RefCell::new(None);
    let start = Instant::now();
    let end = start + Duration::from_secs(API_SECONDS);
    stream::iter(0..CLIENTS)
        .for_each_concurrent(None, async |client| {
            let mut n = 0;
            while Instant::now() < end && n < API_REQUESTS / CLIENTS as u64 && failed.borrow().is_none() {
                let begun = Instant::now();
                match request(client, n).await {
                    Ok(()) => times.borrow_mut().push(begun.elapsed().as_secs_f64() * 1000.0),
                    Err(e) => *failed.borrow_mut() = Some(e),
                }
                n += 1;
            }
        })
        .await;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(error) = failed.into_inner() {
        return Err(error.context("while the API was measured"));
    }
    let mut times = times.into_inner();
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied().context("no request was answered")?;
    Ok((times.len() as f64 / seconds, p99))
}

async fn commit(paths: &Paths) -> String {
    let mut git = command("git");
    git.current_dir(&paths.repo).args(["describe", "--always", "--dirty"]);
    run(git, "git describe").await.map_or_else(|_| "unknown".into(), |t| t.trim().to_owned())
}

fn markdown(figures: &Figures, accel: Accel, commit: &str) -> String {
    let how = match accel {
        Accel::Kvm => "a QEMU machine with hardware virtualization",
        Accel::Tcg => {
            "a QEMU machine with emulated processors (TCG), 10 to 30 times slower than a real one: times are worth comparing \
             within one run only, sizes and counts hold anywhere"
        }
    };
    let model = fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model =
        model.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, m)| m);
    let mut page = format!(
        "# Figures\n\nWritten by `just figures`; `target/figures.json` holds the same numbers. Commit {commit}, {model}.\n\
         Hosts ran in {how}.\n\
         What is at a scale was measured by `just figures-scale` on the machine itself, which takes a minute once it is built and \
         fails beyond a budget.\n\n| figure | value | budget | what |\n|---|---:|---|---|\n"
    );
    for (name, about, budget) in ABOUT.iter().chain(SCALE) {
        if let Some(value) = figures.get(name) {
            let _ = writeln!(page, "| `{name}` | {value:.2} | {budget} | {about} |");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_are_summed() {
        let stat = "cpu  150 50 300 9000 10 20 80 0 0 0\ncpu0 1 2 3\n";
        assert_eq!(cpu_seconds(stat), Some((2.0, 4.0)));
        assert_eq!(cpu_seconds("intr 1\n"), None);
    }

    #[test]
    fn the_page_has_a_line_per_figure() {
        let page = markdown(&Figures::from([("iso.size_mb", 120.5)]), Accel::Tcg, "abc");
        assert!(page.contains("| `iso.size_mb` | 120.50 | ≤ 250 |"), "{page}");
        assert!(!page.contains("api.read_rps"));
    }
}
