//! The command line of `lq-image`; what it does is told in the library.

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use lq_api::local::layout::RootManifest;
use lq_image::base::Base;
use lq_image::manifest::Manifest;
use lq_image::{grub, initrd, inspect, iso, root, util};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Builds the LimiQuantix root image, initramfs and ISO.
#[derive(Debug, Parser)]
#[command(name = "lq-image", version)]
struct Cli {
    /// Directory for everything made.
    #[arg(long, global = true, default_value = "target")]
    target: PathBuf,
    /// The base manifest.
    #[arg(long, global = true, default_value = "image/base.toml")]
    manifest: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Programs {
    /// Directory with our static programs.
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/release")]
    bin: PathBuf,
    /// Make an incomplete image when some are missing (for development).
    #[arg(long)]
    allow_missing: bool,
    /// Compress quickly rather than well (for development).
    #[arg(long)]
    quick: bool,
    /// Put this fault agent into the image, for end-to-end tests. Such an image is not for release.
    #[arg(long)]
    with_test_agent: Option<PathBuf>,
}

impl Programs {
    fn options(&self) -> root::Options<'_> {
        root::Options {
            bin: &self.bin,
            allow_missing: self.allow_missing,
            quick: self.quick,
            test_agent: self.with_test_agent.as_deref(),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Gets and unpacks the packages of the base.
    Base {
        /// Ask the package archive again, even where the manifest is unchanged.
        #[arg(long)]
        refresh: bool,
    },
    /// Makes target/image/root.img and root.json.
    Root(Programs),
    /// Makes target/image/initrd and vmlinuz.
    Initrd(Programs),
    /// Makes all of it and the ISO.
    Iso {
        #[command(flatten)]
        programs: Programs,
        /// The ISO.
        #[arg(long, default_value = "target/limiquantix.iso")]
        out: PathBuf,
        /// Further kernel words.
        #[arg(long, default_value = "", allow_hyphen_values = true)]
        append: String,
        /// Print a summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Copies an ISO with an answer file or other kernel words in it.
    AddAnswer {
        /// An ISO made by `lq-image iso`.
        #[arg(long)]
        iso: PathBuf,
        /// The new ISO.
        #[arg(long)]
        out: PathBuf,
        /// Answer file; with an [install] part the ISO installs when it is started.
        #[arg(long)]
        answer: Option<PathBuf>,
        /// Further kernel words, in place of those given before.
        #[arg(long, allow_hyphen_values = true)]
        append: Option<String>,
    },
    /// Shows what is in an ISO and verifies its root image.
    Inspect {
        /// The ISO.
        iso: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lq-image: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until nobody else makes something in the same directory: two at once would put together what belongs to neither.
fn alone(target: &Path) -> Result<File> {
    std::fs::create_dir_all(target).with_context(|| format!("making {}", target.display()))?;
    let path = target.join("image.lock");
    let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("lq-image: waiting for another one that works in {}", target.display());
            lock.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("locking {}", path.display())),
    }
    Ok(lock)
}

fn run(cli: &Cli) -> Result<()> {
    let out = out_dir(cli);
    let _lock = alone(&cli.target)?;
    match &cli.command {
        Command::Base { refresh } => {
            let base = prepare(cli, *refresh)?;
            println!("{} packages, kernel {}", base.packages.len(), base.kernel);
        }
        Command::Root(p) => {
            make_root(cli, p)?;
            println!("{}", out.join("root.img").display());
        }
        Command::Initrd(p) => {
            let base = prepare(cli, false)?;
            initrd::build(&base, &load(cli)?, &out, p.options())?;
            println!("{}", out.join("initrd").display());
        }
        Command::Iso { programs, out: iso_path, append, json } => {
            grub::words_config(append)?;
            let (base, root) = make_root(cli, programs)?;
            initrd::build(&base, &load(cli)?, &out, programs.options())?;
            let epoch = base.epoch()?;
            let images = grub::Images::build(&out, &iso::id(&root), epoch)?;
            let parts = iso::Parts { dir: &out, root: &root, grub: &images, words: append, epoch };
            iso::build(&parts, iso_path)?;
            show(&inspect::inspect(iso_path, &out.join("iso"))?, *json)?;
        }
        Command::AddAnswer { iso, out, answer, append } => {
            iso::add_answer(iso, out, answer.as_deref(), append.as_deref())?;
            println!("{}", out.display());
        }
        Command::Inspect { iso, json } => {
            util::make_dir(&out)?;
            show(&inspect::inspect(iso, &out.join("iso"))?, *json)?;
        }
    }
    Ok(())
}

/// Where the parts are made: test images have a place of their own, so that neither rebuilds the other.
fn out_dir(cli: &Cli) -> PathBuf {
    let test = match &cli.command {
        Command::Root(p) | Command::Initrd(p) | Command::Iso { programs: p, .. } => {
            p.with_test_agent.is_some()
        }
        Command::Base { .. } | Command::AddAnswer { .. } | Command::Inspect { .. } => false,
    };
    cli.target.join(if test { "image-test" } else { "image" })
}

fn load(cli: &Cli) -> Result<Manifest> {
    Manifest::load(&cli.manifest)
}

fn prepare(cli: &Cli, refresh: bool) -> Result<Base> {
    util::make_dir(&out_dir(cli))?;
    Base::prepare(&cli.target, &load(cli)?, refresh).context("base")
}

fn make_root(cli: &Cli, programs: &Programs) -> Result<(Base, RootManifest)> {
    let base = prepare(cli, false)?;
    let root = root::build(&base, &load(cli)?, &out_dir(cli), programs.options()).context("root image")?;
    Ok((base, root))
}

fn show(summary: &inspect::Summary, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(summary)?);
    } else {
        print!("{}", summary.table());
    }
    ensure!(summary.root_verified, "the root image does not verify against root.json: the ISO is damaged");
    Ok(())
}
