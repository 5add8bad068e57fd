//! The `newc` archive the kernel unpacks as initramfs (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).
//! Written here rather than by `cpio`: no root needed for device nodes, and the same tree gives the same bytes.

use crate::tree::{Node, Tree};
use anyhow::{Context, Result};

/// Packs a tree. All times are zero and all owners root.
pub fn pack(tree: &Tree) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (inode, (path, node)) in (1u32..).zip(tree.iter()) {
        let (mode, data, device) = match node {
            Node::Dir => (0o040_755, Vec::new(), (0, 0)),
            Node::File { source, mode } => (0o100_000 | mode, source.read()?, (0, 0)),
            Node::Link(to) => (0o120_777, to.clone().into_bytes(), (0, 0)),
            Node::Char { major, minor } => (0o020_600, Vec::new(), (*major, *minor)),
        };
        entry(&mut out, path, inode, mode, &data, device)?;
    }
    entry(&mut out, "TRAILER!!!", 0, 0, &[], (0, 0))?;
    Ok(out)
}

fn entry(
    out: &mut Vec<u8>,
    path: &str,
    inode: u32,
    mode: u32,
    data: &[u8],
    device: (u32, u32),
) -> Result<()> {
    let size = u32::try_from(data.len()).with_context(|| format!("/{path} is too large for an initramfs"))?;
    let name_size = u32::try_from(path.len() + 1)?;
    let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
    out.extend_from_slice(b"070701");
    for field in [inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(data);
    pad(out);
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_headers_names_and_padding() {
        let mut t = Tree::default();
        t.bytes("ab", "hello").unwrap();
        t.set("dev/console", Node::Char { major: 5, minor: 1 }).unwrap();
        let a = pack(&t).unwrap();
        assert_eq!(a.len() % 4, 0);
        assert_eq!(&a[..6], b"070701");
        assert_eq!(&a[14..22], b"000081a4", "mode 0100644");
        assert_eq!(&a[54..62], b"00000005", "size");
        assert_eq!(&a[110..113], b"ab\0");
        assert_eq!(&a[116..121], b"hello", "data begin at a multiple of four");
        let text = String::from_utf8_lossy(&a);
        assert!(text.contains("dev/console\0") && text.contains("TRAILER!!!\0"));
        assert_eq!(a, pack(&t).unwrap());
    }
}
