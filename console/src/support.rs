//! The page of the support bundle: the removable drives it can be written to, and how else to get it. Pure: what is known comes
//! in, keys give what is to be asked for.

use crate::{
    app::Step,
    keys::Key,
    remote::Request,
    view::{BAR, Line, PLAIN, STRONG, WARN, wrap},
};
use lq_api::removable::RemovableDrive;

/// What there is to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Support {
    /// Drives that are plugged in.
    pub(crate) drives: Vec<RemovableDrive>,
    /// The one that is chosen.
    pub(crate) at: usize,
    /// The host's address, where it has one.
    pub(crate) address: Option<String>,
}

impl Support {
    /// What a key asks for.
    pub(crate) fn key(&mut self, key: Key) -> Step {
        match key {
            Key::Up => self.at = self.at.saturating_sub(1),
            Key::Down => self.at = (self.at + 1).min(self.drives.len().saturating_sub(1)),
            Key::Char('r' | 'R') => return Step::Ask(Request::Support),
            Key::Enter => {
                return match self.drives.get(self.at) {
                    None => Step::Say("No removable drive is plugged in: plug one in first.".into()),
                    Some(RemovableDrive { device, unfit: Some(why), .. }) => {
                        Step::Say(format!("Nothing can be written to {device}: it {why}."))
                    }
                    Some(drive) => Step::Ask(Request::WriteSupport { device: drive.device.clone() }),
                };
            }
            _ => {}
        }
        Step::Nothing
    }

    /// What is plugged in now; the drive that was chosen stays so.
    pub(crate) fn again(&mut self, drives: Vec<RemovableDrive>) {
        let chosen = self.drives.get(self.at).map(|d| d.device.clone());
        let at = chosen.and_then(|chosen| drives.iter().position(|d| d.device == chosen));
        self.at = at.unwrap_or(self.at).min(drives.len().saturating_sub(1));
        self.drives = drives;
    }

    /// What the page shows below its title.
    pub(crate) fn lines(&self, width: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut say = |text: &str| lines.extend(wrap(text, width).into_iter().map(|l| (PLAIN, l)));
        say(
            "Logs, inventory and the objects of the cluster, without secrets, in one file of some megabytes.",
        );
        say("");
        lines
            .push((STRONG, "Write it to a removable drive (FAT, exFAT or ext4; what is on it stays)".into()));
        for (n, drive) in self.drives.iter().enumerate() {
            let style = match (n == self.at, &drive.unfit) {
                (true, _) => BAR,
                (false, Some(_)) => WARN,
                (false, None) => PLAIN,
            };
            let words = [drive.model.as_deref(), drive.file_system.as_deref(), drive.label.as_deref()];
            let words: Vec<&str> = words.into_iter().flatten().collect();
            let why = if drive.unfit.is_some() { "  (not fit)" } else { "" };
            let text = format!(
                " {:<10}{:>10}  {}{why}",
                drive.device,
                drive.size_bytes.to_string(),
                words.join(", ")
            );
            lines.push((style, text.chars().take(width).collect()));
        }
        if self.drives.is_empty() {
            lines.push((WARN, " none is plugged in; one that is shows up here".into()));
        }
        let address = self.address.as_deref().unwrap_or("HOST");
        lines.push((PLAIN, String::new()));
        lines.push((STRONG, "Or get it from another computer, logged in as an administrator".into()));
        lines.push((PLAIN, " lqctl host support-bundle HOST".into()));
        lines.push((PLAIN, format!(" in a browser: https://{address}/ and there Hosts, this host, System")));
        lines
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lq_api::Bytes;

    fn drive(device: &str, file_system: Option<&str>, unfit: Option<&str>) -> RemovableDrive {
        RemovableDrive {
            device: device.into(),
            size_bytes: Bytes::gib(14),
            model: Some("SanDisk Ultra".into()),
            file_system: file_system.map(str::to_owned),
            label: file_system.map(|_| "STICK".into()),
            unfit: unfit.map(str::to_owned),
        }
    }

    /// Two sticks, one of them fit.
    pub(crate) fn plugged() -> Support {
        let ntfs =
            "has NTFS, which this host does not write: format it on another computer as FAT, exFAT or ext4";
        Support {
            drives: vec![drive("sdb1", None, Some(ntfs)), drive("sdc1", Some("FAT"), None)],
            at: 0,
            address: Some("10.0.0.2".into()),
        }
    }

    #[test]
    fn only_what_is_fit_is_written_to() {
        let mut page = plugged();
        assert!(matches!(page.key(Key::Enter), Step::Say(why) if why.contains("sdb1: it has NTFS")));
        assert!(matches!(page.key(Key::Down), Step::Nothing));
        assert!(matches!(page.key(Key::Down), Step::Nothing));
        assert!(
            matches!(page.key(Key::Enter), Step::Ask(Request::WriteSupport { device }) if device == "sdc1")
        );
        assert!(matches!(page.key(Key::Char('r')), Step::Ask(Request::Support)));
        let mut none = Support { drives: Vec::new(), at: 0, address: None };
        assert!(matches!(none.key(Key::Enter), Step::Say(why) if why.contains("plug one in")));
        assert!(none.lines(76).iter().any(|(_, l)| l.contains("none is plugged in")));
    }

    #[test]
    fn what_was_chosen_stays_so_when_another_is_pulled_out() {
        let mut page = plugged();
        page.key(Key::Down);
        let left: Vec<_> = page.drives.drain(1..).collect();
        page.drives.clone_from(&plugged().drives);
        page.again(left.clone());
        assert_eq!((page.at, page.drives.len()), (0, 1));
        page.again(plugged().drives);
        assert_eq!(page.at, 1, "it is the same drive");
        page.again(Vec::new());
        assert_eq!(page.at, 0);
    }
}
