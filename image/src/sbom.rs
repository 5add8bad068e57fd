//! What the image is made of, for whoever must know: `/usr/share/doc/limiquantix/packages.json` and the copyright file
//! of every package that gave at least one file.

use crate::base::Base;
use crate::closure;
use crate::tree::Tree;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeSet;

/// Where documents lie in the image.
pub const DIR: &str = "usr/share/doc/limiquantix";

#[derive(Serialize)]
struct Document<'a> {
    product: &'a str,
    version: &'a str,
    packages: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
    source: &'a str,
    sha256: &'a str,
    /// Short names as the copyright file gives them; empty where it is free text.
    licences: BTreeSet<String>,
}

/// Adds the documents for the packages in `used`.
pub fn add(tree: &mut Tree, base: &Base, used: &BTreeSet<String>) -> Result<()> {
    let mut packages = Vec::new();
    for p in base.packages.iter().filter(|p| used.contains(&p.name)) {
        let root = base.tree(p);
        let file = closure::resolve(&root, &root.join("usr/share/doc").join(&p.name).join("copyright"));
        let text = file.as_deref().map(std::fs::read).transpose()?.unwrap_or_default();
        if !text.is_empty() {
            tree.bytes(&format!("{DIR}/copyright/{}", p.name), text.clone())?;
        }
        packages.push(Entry {
            name: &p.name,
            version: &p.version,
            architecture: &p.architecture,
            source: p.source.as_deref().unwrap_or(&p.name),
            sha256: &p.sha256,
            licences: licences(&String::from_utf8_lossy(&text)),
        });
    }
    let document = Document { product: "LimiQuantix", version: env!("CARGO_PKG_VERSION"), packages };
    tree.bytes(&format!("{DIR}/packages.json"), serde_json::to_vec_pretty(&document)?)
}

/// Short licence names of a machine-readable copyright file (Debian's DEP-5).
fn licences(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|l| l.strip_prefix("License:"))
        .map(|l| l.trim().to_owned())
        .filter(|l| !l.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_listed_once() {
        let text = "Files: *\nLicense: GPL-2+\n\nLicense: GPL-2+\n text License: x\n\nLicense: MIT\n";
        assert_eq!(licences(text).into_iter().collect::<Vec<_>>(), ["GPL-2+", "MIT"]);
    }
}
