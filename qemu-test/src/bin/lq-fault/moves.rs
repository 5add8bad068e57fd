//! `lq-fault moves`: lets a counting guest move between monitors of one host, again and again, and checks its count.
//!
//! ```text
//! lq-fault moves ROUNDS LQ-VMM CONFIG
//! ```
//! CONFIG is a monitor's configuration with `RUN` in the place of its run directory and `"START"` in that of its start. The
//! guest's lines `tick N` must count on without a gap or a repetition, whichever console they come from. Prints a line for each
//! move, and at last `moves: good, N ticks`, or what was wrong, after what the guest said last (`SAID …`).

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead as _, BufReader},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// After this long nothing comes any more.
const LIMIT: Duration = Duration::from_secs(240);
/// Ticks that are waited for between two moves.
const TICKS: u64 = 15;
/// As many of the guest's last lines are shown when something is wrong.
const LAST_LINES: usize = 40;

/// Moves the guest and prints what came of it.
pub(crate) fn run(arguments: &[String]) -> io::Result<()> {
    let [rounds, program, config] = arguments else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "moves ROUNDS LQ-VMM CONFIG"));
    };
    let config = fs::read_to_string(config)?;
    let mut count = Count::default();
    match travel(&mut count, super::number(rounds)?, program, &config) {
        Ok(()) => println!("moves: good, {} ticks", count.ticks),
        Err(error) => {
            count.said.iter().for_each(|line| println!("SAID {line}"));
            println!("moves: bad: {error}");
        }
    }
    Ok(())
}

/// A monitor and its console.
struct Monitor {
    process: Child,
    run: PathBuf,
    console: BufReader<UnixStream>,
}

impl Monitor {
    fn start(program: &str, config: &str, number: u32, start: &str) -> io::Result<Self> {
        let run = PathBuf::from(format!("/run/lq-{number}"));
        fs::create_dir_all(&run)?;
        let file = run.join("vmm.json");
        let text = config.replace("RUN", &run.display().to_string()).replace("\"START\"", start);
        fs::write(&file, text)?;
        let mut process =
            Command::new(program).args(["run", "--config"]).arg(&file).stdin(Stdio::null()).spawn()?;
        let begin = Instant::now();
        let stream = loop {
            match UnixStream::connect(run.join("console.sock")) {
                Ok(stream) => break stream,
                Err(error) if begin.elapsed() > LIMIT => return Err(error),
                Err(_) => {
                    if let Some(status) = process.try_wait()? {
                        return Err(io::Error::other(format!("monitor {number} ended at once: {status}")));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
        };
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { process, run, console: BufReader::new(stream) })
    }

    fn control(&self) -> PathBuf {
        self.run.join("control.sock")
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It has ended, unless something failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads lines, joined over consoles, and counts ticks.
#[derive(Default)]
struct Count {
    /// The begin of a line that a move cut.
    begun: String,
    ticks: u64,
    /// The last lines.
    said: VecDeque<String>,
}

impl Count {
    /// Takes one line, or what there is of it. False: the console has ended.
    fn line(&mut self, monitor: &mut Monitor) -> io::Result<bool> {
        let mut bytes = Vec::new();
        if monitor.console.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(false);
        }
        self.begun.push_str(&String::from_utf8_lossy(&bytes));
        if self.begun.ends_with('\n') {
            let line = std::mem::take(&mut self.begun);
            if self.said.len() == LAST_LINES {
                self.said.pop_front();
            }
            self.said.push_back(line.trim_end().to_owned());
            if line.contains("BAD") {
                return Err(io::Error::other("the guest read from its disk what it had not written"));
            }
            if let Some(number) = line.trim().strip_prefix("tick ") {
                let expected = format!("{}", self.ticks + 1);
                if number != expected {
                    return Err(io::Error::other(format!("tick {number} came where {expected} belongs")));
                }
                self.ticks += 1;
            }
        }
        Ok(true)
    }

    fn wait(&mut self, monitor: &mut Monitor, ticks: u64) -> io::Result<()> {
        let until = self.ticks + ticks;
        while self.ticks < until {
            if !self.line(monitor)? {
                return Err(io::Error::other("the monitor ended by itself"));
            }
        }
        Ok(())
    }
}

fn travel(count: &mut Count, rounds: u32, program: &str, config: &str) -> io::Result<()> {
    let mut here = Monitor::start(program, config, 0, "\"boot\"")?;
    for round in 1..=rounds {
        count.wait(&mut here, TICKS)?;
        let there = Monitor::start(program, config, round, "\"incoming\"")?;
        let begin = Instant::now();
        let moved = Command::new(program)
            .args([
                Path::new("migrate"),
                Path::new("--from"),
                &here.control(),
                Path::new("--to"),
                &there.control(),
            ])
            .output()?;
        let said = String::from_utf8_lossy(&moved.stdout).into_owned();
        if !moved.status.success() {
            return Err(io::Error::other(format!(
                "move {round}: {said}{}",
                String::from_utf8_lossy(&moved.stderr)
            )));
        }
        println!(
            "MOVE {round} seconds={:.3} {}",
            begin.elapsed().as_secs_f64(),
            said.trim().replace('\n', " ")
        );
        while count.line(&mut here)? {}
        here = there;
    }
    count.wait(&mut here, TICKS)
}
