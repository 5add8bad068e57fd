//! A person at the serial line of a machine: types, and looks at what the screen shows then.
//!
//! Emulated serial lines lose and double characters at times. Whoever sees a mangled screen has it drawn anew (Ctrl-L), and so
//! do waits here.

use crate::{qemu::Running, scale};
use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::Instant;

/// The function keys of a vt220.
pub(crate) const F2: &str = "\x1b[12~";
pub(crate) const F3: &str = "\x1b[13~";
pub(crate) const F4: &str = "\x1b[14~";
pub(crate) const F12: &str = "\x1b[24~";
/// The arrows.
pub(crate) const DOWN: &str = "\x1b[B";
pub(crate) const UP: &str = "\x1b[A";
pub(crate) const ESC: &str = "\x1b";
/// Ctrl-U, which empties a field.
pub(crate) const ERASE: &str = "\x15";
/// Ctrl-], which leaves a machine's console.
pub(crate) const LEAVE: &str = "\x1d";
/// Ctrl-L, which draws the screen anew.
pub(crate) const REDRAW: &str = "\x0c";
/// Times a key is pressed until something comes of it: the daemon may have been busy, and the key not taken.
const PRESSES: usize = 5;
/// Seconds after which the screen is drawn anew, should the line have mangled it.
const PATIENT: u64 = 10;

impl Running {
    /// The screen, line by line.
    pub(crate) fn screen(&self) -> String {
        self.serial.screen().iter().map(|line| format!("    | {line}\n")).collect()
    }

    /// Waits until words are on the screen, in one line.
    pub(crate) async fn sees(&mut self, words: &str, seconds: u64) -> Result<()> {
        self.looks_for(words, true, seconds).await
    }

    /// Waits until they are not on the screen any more.
    pub(crate) async fn sees_no(&mut self, words: &str, seconds: u64) -> Result<()> {
        self.looks_for(words, false, seconds).await
    }

    async fn looks_for(&mut self, words: &str, wanted: bool, seconds: u64) -> Result<()> {
        let deadline = Instant::now() + scale::seconds(seconds);
        loop {
            let again = (Instant::now() + scale::seconds(PATIENT)).min(deadline);
            if self.serial.shows(words, wanted, again).await? {
                return Ok(());
            }
            let what = if wanted { "did not come on" } else { "did not go from" };
            ensure!(
                Instant::now() < deadline,
                "`{words}` {what} the screen within {} s:\n{}",
                scale::seconds(seconds).as_secs(),
                self.screen()
            );
            self.type_serial(REDRAW).await?;
        }
    }

    /// Types, and waits until words are on the screen that were not there before.
    pub(crate) async fn type_for(&mut self, keys: &str, words: &str, seconds: u64) -> Result<()> {
        // The page before may still be being drawn over.
        self.sees_no(words, 30).await.with_context(|| format!("about to type {keys:?}"))?;
        self.type_serial(keys).await?;
        self.sees(words, seconds).await.with_context(|| format!("typed {keys:?}"))
    }

    /// Presses keys that do no harm when pressed again, until words are there that were not before.
    pub(crate) async fn press_for(&mut self, keys: &str, words: &str) -> Result<()> {
        self.sees_no(words, 30).await.with_context(|| format!("about to press {keys:?}"))?;
        for _ in 0..PRESSES {
            self.type_serial(keys).await?;
            if self.sees(words, 15).await.is_ok() {
                return Ok(());
            }
        }
        bail!("pressed {keys:?} in vain for `{words}`:\n{}", self.screen())
    }

    /// Logs in at the console as `admin`.
    pub(crate) async fn log_in(&mut self, password: &str) -> Result<()> {
        self.press_for(F2, "Password").await.context("the console asks nobody to log in")?;
        self.type_for(&format!("{password}\r"), "Management network", 60).await.context("logging in")
    }
}
