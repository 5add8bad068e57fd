//! Which libraries the programs of the image need: the closure over what ELF files ask of the dynamic loader.

use crate::elf;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where Debian keeps libraries. In the image all are in the first, which the loader searches by itself: so a program may also name
/// the last, swtpm's own, as its library path.
pub const LIBRARY_DIRS: [&str; 5] =
    ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib", "usr/lib/x86_64-linux-gnu/swtpm"];

/// What programs need besides themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The dynamic loader, absolute path as written in the programs.
    pub interpreters: BTreeSet<String>,
    /// Sonames.
    pub libraries: BTreeSet<String>,
}

/// Walks from `programs` (name and bytes) over everything they need. `find` gives the bytes of a library by its
/// file name, or nothing where there is none.
pub fn closure(
    programs: Vec<(String, Vec<u8>)>,
    mut find: impl FnMut(&str) -> Result<Option<Vec<u8>>>,
) -> Result<Needs> {
    let mut needs = Needs::default();
    let mut open = programs;
    while let Some((name, data)) = open.pop() {
        let dynamic = elf::dynamic(&data).with_context(|| format!("{name} cannot be read as ELF"))?;
        let ours = |path: &String| LIBRARY_DIRS.contains(&path.trim_matches('/'));
        ensure!(
            dynamic.run_path.iter().all(ours),
            "{name} has a library path of its own ({}), which the image does not have",
            dynamic.run_path.join(":")
        );
        let interpreter = dynamic.interpreter.into_iter().inspect(|i| {
            needs.interpreters.insert(i.clone());
        });
        let wanted: Vec<String> = interpreter
            .filter_map(|i| Some(i.rsplit('/').next()?.to_owned()))
            .chain(dynamic.needed)
            .collect();
        for library in wanted {
            if needs.libraries.insert(library.clone()) {
                let data = find(&library)?.with_context(|| {
                    format!(
                        "{name} needs {library}, which no package of the base has: add one to packages.want"
                    )
                })?;
                open.push((library, data));
            }
        }
    }
    Ok(needs)
}

/// File names of libraries below the roots of packages, each with the real file (links followed within its package).
pub fn libraries(roots: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut out = BTreeMap::new();
    for root in roots {
        for dir in LIBRARY_DIRS {
            let Ok(entries) = std::fs::read_dir(root.join(dir)) else { continue };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.contains(".so")
                    && let Some(file) = resolve(root, &entry.path())
                {
                    out.entry(name).or_insert(file);
                }
            }
        }
    }
    Ok(out)
}

/// Follows links of a package, taking absolute ones as relative to the package's root.
pub fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..8 {
        let meta = std::fs::symlink_metadata(&path).ok()?;
        if !meta.is_symlink() {
            return meta.is_file().then_some(path);
        }
        let to = std::fs::read_link(&path).ok()?;
        path = match to.strip_prefix("/") {
            Ok(inside) => root.join(inside),
            Err(_) => path.parent()?.join(to),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::fake;

    fn library(name: &str) -> Option<Vec<u8>> {
        match name {
            "libc.so.6" => Some(fake(None, &["ld.so.2"])),
            "ld.so.2" => Some(fake(None, &[])),
            "liba.so.1" => Some(fake(None, &["libb.so.1", "libc.so.6"])),
            "libb.so.1" => Some(fake(None, &["liba.so.1", "libc.so.6"])),
            _ => None,
        }
    }

    #[test]
    fn the_closure_is_whole_and_ends() {
        let program = fake(Some("/lib64/ld.so.2"), &["liba.so.1"]);
        let needs = closure(vec![("p".into(), program)], |n| Ok(library(n))).unwrap();
        assert_eq!(needs.interpreters.iter().collect::<Vec<_>>(), ["/lib64/ld.so.2"]);
        assert_eq!(
            needs.libraries.iter().collect::<Vec<_>>(),
            ["ld.so.2", "liba.so.1", "libb.so.1", "libc.so.6"]
        );
    }

    #[test]
    fn a_static_program_needs_nothing() {
        let needs = closure(vec![("p".into(), fake(None, &[]))], |_| Ok(None)).unwrap();
        assert_eq!(needs, Needs::default());
    }

    #[test]
    fn a_missing_library_names_who_needs_it() {
        let program = fake(None, &["libz.so.1"]);
        let e = closure(vec![("nft".into(), program)], |n| Ok(library(n))).unwrap_err().to_string();
        assert!(e.contains("nft needs libz.so.1"), "{e}");
    }

    #[test]
    fn links_stay_in_their_package() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("usr/lib");
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::write(lib.join("libx.so.1.2"), b"x").unwrap();
        std::os::unix::fs::symlink("libx.so.1.2", lib.join("libx.so.1")).unwrap();
        std::os::unix::fs::symlink("/usr/lib/libx.so.1", lib.join("libx.so")).unwrap();
        std::os::unix::fs::symlink("loop.so", lib.join("loop.so")).unwrap();
        let found = libraries(&[dir.path().to_owned()]).unwrap();
        assert_eq!(found.get("libx.so"), Some(&lib.join("libx.so.1.2")));
        assert!(!found.contains_key("loop.so"));
    }
}
