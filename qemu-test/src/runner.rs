//! Runs tests: the clusters' alone, then the other groups side by side where so is asked (two machines at once fill two
//! cores), tests of a group one after the other, each with a time limit from outside and, on emulated machines, one repetition
//! that is reported. Says what happened as it happens; the last line is the sum.

use crate::{
    accel::{self, Accel},
    pair::Pair,
    paths::Paths,
    scale,
    several::Several,
    site::Site,
    tests,
};
use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, future::LocalBoxFuture, stream};
use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// A test.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it proves.
    pub(crate) about: &'static str,
    /// Tests of one group run one after the other and may leave a [`Site`], [`Several`] or [`Pair`] to the next.
    pub(crate) group: &'static str,
    /// Seconds after which it has failed, on an idle emulated machine.
    pub(crate) limit: u64,
    /// The test.
    pub(crate) run: for<'a> fn(&'a mut Ctx) -> LocalBoxFuture<'a, Result<()>>,
}

/// What a test is given.
pub(crate) struct Ctx {
    /// Places.
    pub(crate) paths: Paths,
    /// How machines run.
    pub(crate) accel: Accel,
    /// This test's directory for logs and disks.
    pub(crate) dir: PathBuf,
    left: Left,
}

/// What a test leaves, healthy, to the next of its group.
#[derive(Debug, Default)]
struct Left {
    site: Option<Site>,
    several: Option<Several>,
    pair: Option<Pair>,
}

impl Ctx {
    /// The group's host: the one the test before has left, or a new one. Belongs to the test until it gives it back.
    pub(crate) async fn take_site(&mut self) -> Result<Site> {
        match self.left.site.take() {
            Some(site) => Ok(site),
            None => {
                Site::open(&self.paths, self.accel, &self.dir.join("host")).await.context("preparing a host")
            }
        }
    }

    /// Leaves the host, healthy, to the next test.
    pub(crate) fn give_back(&mut self, site: Site) {
        self.left.site = Some(site);
    }

    /// The group's cluster of three, in the same way.
    pub(crate) async fn take_several(&mut self) -> Result<Several> {
        match self.left.several.take() {
            Some(several) => Ok(several),
            None => {
                let dir = self.paths.e2e().join("several");
                fresh(&dir, false)?;
                Several::form(&self.paths, self.accel, &dir).await.context("forming a cluster")
            }
        }
    }

    /// Leaves the cluster, whole and without what the test made, to the next test.
    pub(crate) fn give_back_several(&mut self, several: Several) {
        self.left.several = Some(several);
    }

    /// The group's two hosts and a witness, in the same way.
    pub(crate) async fn take_pair(&mut self) -> Result<Pair> {
        match self.left.pair.take() {
            Some(pair) => Ok(pair),
            None => {
                let dir = self.paths.e2e().join("pair");
                fresh(&dir, false)?;
                Pair::form(&self.paths, self.accel, &dir).await.context("two hosts and a witness")
            }
        }
    }

    /// Leaves them, whole, to the next test.
    pub(crate) fn give_back_pair(&mut self, pair: Pair) {
        self.left.pair = Some(pair);
    }
}

/// How a test went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Retried,
    Failed,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Names of tests; `all` is all.
    pub(crate) names: Vec<String>,
    /// Groups at once.
    pub(crate) jobs: usize,
    /// Repeat a failed test once.
    pub(crate) retry: bool,
}

/// Runs the tests; an error when one failed.
pub(crate) async fn run(paths: &Paths, plan: &Plan) -> Result<()> {
    let chosen = choose(&plan.names)?;
    let accel = accel::decide().await?;
    println!(
        "e2e: {} tests, machines run by {}; logs in {}",
        chosen.len(),
        if accel == Accel::Kvm { "hardware virtualization" } else { "emulation (TCG)" },
        paths.e2e().display()
    );
    // What several groups need is made before them, once.
    crate::guest_image::ensure(paths).await?;
    if chosen.iter().any(|t| tests::ON_A_SITE.contains(&t.group)) {
        crate::media::installed_disk(paths, accel).await.context("installing the host that tests clone")?;
    }
    let mut groups: Vec<Vec<Test>> = Vec::new();
    for test in &chosen {
        match groups.iter_mut().find(|g| g.iter().any(|t| t.group == test.group)) {
            Some(group) => group.push(*test),
            None => groups.push(vec![*test]),
        }
    }
    // The longest first, so that the short ones fill the other core.
    groups.sort_by_key(|g| std::cmp::Reverse(g.iter().map(|t| t.limit).sum::<u64>()));
    let (alone, side_by_side): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .partition(|g| g.iter().any(|t| [tests::OF_THREE, tests::OF_TWO].contains(&t.group)));
    let start = Instant::now();
    let verdicts = RefCell::new(Vec::new());
    for (groups, jobs) in [(alone, 1), (side_by_side, plan.jobs.max(1))] {
        scale::shared_by(jobs.min(groups.len()));
        stream::iter(groups)
            .for_each_concurrent(jobs, async |group| {
                run_group(paths, accel, plan.retry, group, &verdicts).await;
            })
            .await;
    }
    let verdicts = verdicts.into_inner();
    let count = |v: &[Verdict]| verdicts.iter().filter(|(_, seen)| v.contains(seen)).count();
    let failed: Vec<&str> =
        verdicts.iter().filter(|(_, v)| *v == Verdict::Failed).map(|(name, _)| *name).collect();
    println!("e2e: took {:.0} s", start.elapsed().as_secs_f64());
    if count(&[Verdict::Retried]) > 0 {
        println!("e2e: {} passed only when repeated (see RETRIED above)", count(&[Verdict::Retried]));
    }
    if !failed.is_empty() {
        println!("e2e: failed: {}", failed.join(", "));
    }
    println!(
        "e2e: {} passed, {} failed, 0 skipped",
        count(&[Verdict::Passed, Verdict::Retried]),
        failed.len()
    );
    if failed.is_empty() { Ok(()) } else { bail!("end-to-end tests failed") }
}

/// The tests with these names.
fn choose(names: &[String]) -> Result<Vec<Test>> {
    let all = tests::all();
    if names.is_empty() || names.iter().any(|n| n == "all" || n == "long") {
        let long = names.iter().any(|n| n == "long");
        return Ok(all.into_iter().filter(|t| tests::BY_NAME.contains(&t.name) == long).collect());
    }
    for name in names {
        if !all.iter().any(|t| t.name == name) {
            let known: Vec<&str> = all.iter().map(|t| t.name).collect();
            bail!("no test is called `{name}`; there are: {}", known.join(", "));
        }
    }
    Ok(all.into_iter().filter(|t| names.iter().any(|n| n == t.name)).collect())
}

async fn run_group(
    paths: &Paths,
    accel: Accel,
    retry: bool,
    group: Vec<Test>,
    verdicts: &RefCell<Vec<(&'static str, Verdict)>>,
) {
    let mut left = Left::default();
    for test in group {
        let mut verdict = Verdict::Failed;
        let attempts = if retry && accel == Accel::Tcg { 2 } else { 1 };
        for attempt in 1..=attempts {
            let start = Instant::now();
            let name = test.name;
            println!("begin   {name}");
            let outcome = attempt_once(paths, accel, test, &mut left).await;
            let seconds = start.elapsed().as_secs_f64();
            match outcome {
                Ok(()) => {
                    verdict = if attempt == 1 { Verdict::Passed } else { Verdict::Retried };
                    println!("{} {name} ({seconds:.0} s)", if attempt == 1 { "ok     " } else { "RETRIED" });
                    break;
                }
                Err(error) => {
                    println!("FAILED  {name} ({seconds:.0} s): {error:#}");
                    println!("        logs: {}", paths.e2e().join(name).display());
                    if attempt < attempts {
                        println!("RETRIED {name}: emulated processors fail at times; once more");
                    }
                }
            }
        }
        verdicts.borrow_mut().push((test.name, verdict));
    }
}

async fn attempt_once(paths: &Paths, accel: Accel, test: Test, left: &mut Left) -> Result<()> {
    let dir = paths.e2e().join(test.name);
    fresh(&dir, left.site.as_ref().is_some_and(|s| s.disk.path.starts_with(&dir)))?;
    let mut ctx = Ctx { paths: paths.clone(), accel, dir, left: std::mem::take(left) };
    let outcome = tokio::time::timeout(scale::seconds(test.limit), (test.run)(&mut ctx)).await;
    match outcome {
        Ok(Ok(())) => {
            *left = ctx.left;
            Ok(())
        }
        // Hosts are dropped with the context: after a failure nothing is taken over.
        Ok(Err(error)) => Err(error),
        Err(_) => bail!("did not end within {} s", scale::seconds(test.limit).as_secs()),
    }
}

/// Empties a directory; traces of the last attempt are kept beside it as `<name>.before`.
fn fresh(dir: &Path, in_use: bool) -> Result<()> {
    if in_use {
        return Ok(());
    }
    let before = dir.with_extension("before");
    let _ = fs::remove_dir_all(&before);
    let _ = fs::rename(dir, &before);
    // Disks are large and say nothing that the logs do not.
    for disk in ["host/disk.qcow2", "disk.raw", "disk.qcow2", "flat.raw", "boot.iso", "install.iso"] {
        let _ = fs::remove_file(before.join(disk));
    }
    for host in 0..crate::several::HOSTS {
        let _ = fs::remove_file(crate::several::disk(&before, host));
    }
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}
