//! Debian package records and the closure of dependencies over them. Pure: the archive is a function from names to
//! records, so the walk can be tested without one.

use crate::glob;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What we keep of a package record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Source package, where its name differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SHA-256 of the package file, hexadecimal.
    pub sha256: String,
    /// Size of the package file in bytes.
    pub size: u64,
    /// Groups of alternatives, one of each is needed (`Pre-Depends` and `Depends`, versions dropped).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends: Vec<Vec<String>>,
}

impl Package {
    /// Name of the file `apt-get download` writes.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }

    /// Directory its files are unpacked to.
    pub fn dir_name(&self) -> String {
        format!("{}_{}", self.name, self.version.replace(':', "%3a"))
    }
}

/// Parses records as `apt-cache show` prints them; of a name shown twice the first counts (the candidate).
pub fn parse_records(text: &str) -> Vec<Package> {
    let mut out: Vec<Package> = Vec::new();
    for stanza in text.split("\n\n") {
        let fields = fields(stanza);
        let get = |k: &str| fields.get(k).cloned();
        let (Some(name), Some(version), Some(sha256)) = (get("Package"), get("Version"), get("SHA256"))
        else {
            continue;
        };
        if out.iter().any(|p| p.name == name) {
            continue;
        }
        let depends =
            ["Pre-Depends", "Depends"].iter().filter_map(|k| fields.get(*k)).flat_map(|v| groups(v));
        out.push(Package {
            depends: depends.collect(),
            architecture: get("Architecture").unwrap_or_default(),
            source: get("Source"),
            size: get("Size").and_then(|s| s.parse().ok()).unwrap_or(0),
            name,
            version,
            sha256,
        });
    }
    out
}

fn fields(stanza: &str) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in stanza.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(v) = out.get_mut(&last) {
                v.push('\n');
                v.push_str(line.trim());
            }
        } else if let Some((k, v)) = line.split_once(':') {
            last = k.to_owned();
            out.insert(last.clone(), v.trim().to_owned());
        }
    }
    out
}

fn groups(value: &str) -> impl Iterator<Item = Vec<String>> + '_ {
    value.split(',').map(|group| {
        group
            .split('|')
            .filter_map(|one| one.split(['(', '[']).next())
            .map(|name| name.trim().trim_end_matches(":any").to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    })
}

/// Walks from `want` over dependencies. `lookup` gets a batch of names and gives the records it knows. Of alternatives
/// the first that exists is taken; a group with a member matching `leave_out` is taken as fulfilled by others.
pub fn closure(
    want: &[String],
    leave_out: &[String],
    mut lookup: impl FnMut(&[String]) -> Result<Vec<Package>>,
) -> Result<Vec<Package>> {
    let mut known: BTreeMap<String, Package> = BTreeMap::new();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let mut chosen: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<(String, Vec<String>)> =
        want.iter().map(|w| ("the manifest".to_owned(), vec![w.clone()])).collect();
    while !open.is_empty() {
        let names: BTreeSet<String> = open.iter().flat_map(|(_, g)| g.iter().cloned()).collect();
        let new: Vec<String> = names.difference(&asked).cloned().collect();
        if !new.is_empty() {
            known.extend(lookup(&new)?.into_iter().map(|p| (p.name.clone(), p)));
            asked.extend(new);
        }
        let mut next = Vec::new();
        for (who, group) in open {
            let found = group.iter().find(|n| known.contains_key(*n)).and_then(|n| known.get(n));
            ensure!(
                found.is_some(),
                "{who} needs {}, which this machine's package sources do not have. Run `apt-get update`, and see that \
                 /etc/apt lists the main archive of Debian",
                group.join(" or ")
            );
            let Some(package) = found else { continue };
            if chosen.insert(package.name.clone()) {
                for g in package.depends.iter().filter(|g| !g.iter().any(|n| glob::any(leave_out, n))) {
                    next.push((package.name.clone(), g.clone()));
                }
            }
        }
        open = next;
    }
    Ok(known.into_values().filter(|p| chosen.contains(&p.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: nftables
Version: 1.0.6-2
Architecture: amd64
Size: 70000
Pre-Depends: init-system-helpers (>= 1.54~) | sysv
Depends: libc6 (>= 2.34), libedit2 (>= 2.11) | libreadline8,
 debconf (>= 0.5) | debconf-2.0
Description: text
 goes on: here
SHA256: aa

Package: libc6
Source: glibc
Version: 2.36-9
Architecture: amd64
SHA256: bb

Package: libc6
Version: 2.36-8
Architecture: amd64
SHA256: cc

Package: libreadline8
Version: 2:8.2
Architecture: amd64
Depends: libc6:any
SHA256: dd
";

    fn look(names: &[String]) -> Result<Vec<Package>> {
        Ok(parse_records(TEXT).into_iter().filter(|p| names.contains(&p.name)).collect())
    }

    #[test]
    fn records_are_read() {
        let p = parse_records(TEXT);
        assert_eq!(p.len(), 3, "the second libc6 is not the candidate");
        assert_eq!(p[0].depends[1..3], [vec!["libc6"], vec!["libedit2", "libreadline8"]]);
        assert_eq!(p[1].source.as_deref(), Some("glibc"));
        assert_eq!(p[2].file_name(), "libreadline8_2%3a8.2_amd64.deb");
    }

    #[test]
    fn alternatives_and_omissions() {
        let leave_out = vec!["debconf*".to_owned(), "init-system-*".to_owned()];
        let got = closure(&["nftables".into()], &leave_out, look).unwrap();
        let names: Vec<&str> = got.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["libc6", "libreadline8", "nftables"]);
    }

    #[test]
    fn a_missing_dependency_names_who_needs_it() {
        let e = closure(&["nftables".into()], &[], look).unwrap_err().to_string();
        assert!(e.contains("nftables needs init-system-helpers or sysv"), "{e}");
        let e = closure(&["zfs".into()], &[], look).unwrap_err().to_string();
        assert!(e.contains("the manifest needs zfs"), "{e}");
    }
}
