//! The kernel command line: our words (`lq.*`) and those handed on to the installed system. Pure.

use lq_api::local::layout::cmdline as word;

/// How the host was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From the boot medium; nothing lasts.
    Live,
    /// From an installed disk.
    Disk,
    /// From the boot medium, to install.
    Install,
}

/// A slot of an installed disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// `a` or `b`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// How to verify the root image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootParams {
    /// Length of the file system, a positive multiple of 4096.
    pub data_bytes: u64,
    /// Root hash, 64 hexadecimal digits.
    pub root_hash: String,
    /// Salt, hexadecimal; `-` where there is none, as dm-verity writes it.
    pub salt: String,
}

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootArgs {
    /// How the host was booted.
    pub mode: Mode,
    /// How to verify the root image.
    pub root: Option<RootParams>,
    /// The slot booted.
    pub slot: Slot,
    /// GPT disk GUID of the disk booted from, lower case.
    pub disk: Option<String>,
    /// Base64 of an answer file.
    pub answer: Option<String>,
    /// Terminals of the status screen.
    pub consoles: Vec<String>,
    /// `panic=`: what to do after a fatal error: 0 stay, less restart at once, more restart after these seconds.
    pub panic: i64,
    /// Words an installed system gets too.
    pub keep: Vec<String>,
    /// Words of ours that could not be understood.
    pub faults: Vec<String>,
}

impl RootParams {
    /// Reads `<data_bytes>:<root hash>:<salt>`.
    pub fn parse(value: &str) -> Result<Self, String> {
        let fault = |why: &str| Err(format!("{}={value}: {why}", word::ROOT));
        let mut parts = value.split(':');
        let (Some(bytes), Some(hash), Some(salt), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return fault("must be <bytes>:<root hash>:<salt>");
        };
        let hex = |s: &str| s.len().is_multiple_of(2) && s.bytes().all(|b| b.is_ascii_hexdigit());
        let Some(data_bytes) = bytes.parse::<u64>().ok().filter(|b| *b > 0 && b.is_multiple_of(4096)) else {
            return fault("the length must be a positive multiple of 4096");
        };
        if hash.len() != 64 || !hex(hash) {
            return fault("the root hash must be 64 hexadecimal digits");
        }
        if salt != "-" && (salt.is_empty() || salt.len() > 512 || !hex(salt)) {
            return fault("the salt must be 2 to 512 hexadecimal digits, or -");
        }
        Ok(Self { data_bytes, root_hash: hash.to_ascii_lowercase(), salt: salt.to_ascii_lowercase() })
    }
}

impl std::fmt::Display for RootParams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.data_bytes, self.root_hash, self.salt)
    }
}

impl BootArgs {
    /// Reads a command line. Nothing in it is fatal; faults are listed.
    pub fn parse(text: &str) -> Self {
        let mut args = Self {
            mode: Mode::Live,
            root: None,
            slot: Slot::A,
            disk: None,
            answer: None,
            consoles: vec!["tty1".into(), "ttyS0".into()],
            panic: 0,
            keep: Vec::new(),
            faults: Vec::new(),
        };
        for text in text.split_whitespace() {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            match key {
                word::MODE => match value {
                    "live" => args.mode = Mode::Live,
                    "disk" => args.mode = Mode::Disk,
                    "install" => args.mode = Mode::Install,
                    _ => args.faults.push(format!("{text}: must be live, disk or install")),
                },
                word::ROOT => match RootParams::parse(value) {
                    Ok(root) => args.root = Some(root),
                    Err(fault) => args.faults.push(fault),
                },
                word::SLOT => match value {
                    "a" => args.slot = Slot::A,
                    "b" => args.slot = Slot::B,
                    _ => args.faults.push(format!("{text}: must be a or b")),
                },
                word::DISK => args.disk = Some(value.to_ascii_lowercase()),
                word::ANSWER => args.answer = Some(value.to_owned()),
                word::CONSOLE => {
                    let names: Vec<String> = value.split(',').map(str::to_owned).collect();
                    if names.iter().all(|n| is_tty_name(n)) {
                        args.consoles = names;
                    } else {
                        args.faults.push(format!("{text}: must be terminal names such as tty1,ttyS0"));
                    }
                }
                "panic" => args.panic = value.parse().unwrap_or(0),
                _ if key.starts_with("lq.") => args.faults.push(format!("{text}: unknown word")),
                _ => {}
            }
            if key == "no_timer_check"
                || key == "tsc"
                || key == "tsc_early_khz"
                || key == "console"
                || key == word::CONSOLE
            {
                args.keep.push(text.to_owned());
            }
        }
        args
    }
}

fn is_tty_name(name: &str) -> bool {
    name.len() > 3 && name.starts_with("tty") && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_disk_boot_is_read() {
        let hash = "Ab".repeat(32);
        let args = BootArgs::parse(&format!(
            "BOOT_IMAGE=/lq/a/vmlinuz lq.mode=disk lq.slot=b lq.disk=0A-B lq.root=8192:{hash}:0f quiet \
             console=ttyS0,115200 tsc=reliable tsc_early_khz=2600000 no_timer_check panic=-1 lq.console=ttyS0"
        ));
        assert_eq!(args.faults, Vec::<String>::new());
        assert_eq!((args.mode, args.slot, args.disk.as_deref()), (Mode::Disk, Slot::B, Some("0a-b")));
        assert_eq!(args.root.unwrap().to_string(), format!("8192:{}:0f", hash.to_lowercase()));
        assert_eq!(args.panic, -1);
        assert_eq!(args.consoles, ["ttyS0"]);
        let keep = [
            "console=ttyS0,115200",
            "tsc=reliable",
            "tsc_early_khz=2600000",
            "no_timer_check",
            "lq.console=ttyS0",
        ];
        assert_eq!(args.keep, keep);
    }

    #[test]
    fn faults_are_named_and_defaults_stay() {
        let args = BootArgs::parse("lq.mode=dsk lq.root=4095:aa:bb lq.slot=c lq.consol=x lq.console=../x");
        assert_eq!(args.faults.len(), 5, "{:?}", args.faults);
        assert_eq!((args.mode, args.root), (Mode::Live, None));
        assert_eq!(args.consoles, ["tty1", "ttyS0"]);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,300}") {
            let _ = BootArgs::parse(&text);
        }

        #[test]
        fn root_params_round_trip(blocks in 1u64..1 << 40, hash in "[0-9a-f]{64}", salt in "([0-9a-f]{2}){1,32}|-") {
            let params = RootParams { data_bytes: blocks * 4096, root_hash: hash, salt };
            prop_assert_eq!(RootParams::parse(&params.to_string()), Ok(params));
        }
    }
}
