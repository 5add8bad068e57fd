//! The little of ELF (System V gABI, 64-bit little-endian) that the builder needs: what a program loads, and the
//! `.modinfo` section of a kernel module. All reads are checked: a damaged file is an error, never a panic.

use anyhow::{Context, Result, bail, ensure};

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// What a program or library asks of the dynamic loader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// The loader (absolute path); absent for libraries and static programs.
    pub interpreter: Option<String>,
    /// Sonames of needed libraries, in order.
    pub needed: Vec<String>,
    /// Search paths built in.
    pub run_path: Vec<String>,
}

/// Whether this is an ELF file at all.
pub fn is_elf(data: &[u8]) -> bool {
    data.starts_with(b"\x7fELF")
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

/// Reads the dynamic needs of an ELF file.
pub fn dynamic(data: &[u8]) -> Result<Dynamic> {
    let segments = segments(data)?;
    let mut out = Dynamic::default();
    if let Some(s) = segments.iter().find(|s| s.kind == PT_INTERP) {
        out.interpreter = Some(string(data, s.offset)?);
    }
    let Some(table) = segments.iter().find(|s| s.kind == PT_DYNAMIC) else { return Ok(out) };
    let mut entries = Vec::new();
    for n in 0..table.size / 16 {
        let at = table.offset.saturating_add(n * 16);
        let (tag, value) = (u64_at(data, at)?, u64_at(data, at.saturating_add(8))?);
        if tag == DT_NULL {
            break;
        }
        entries.push((tag, value));
    }
    let Some(strings) = entries.iter().find(|(t, _)| *t == DT_STRTAB).map(|(_, v)| *v) else {
        return Ok(out);
    };
    let strings = segments
        .iter()
        .filter(|s| s.kind == PT_LOAD)
        .find(|s| strings >= s.address && strings - s.address < s.size)
        .and_then(|s| (strings - s.address).checked_add(s.offset))
        .context("the dynamic string table lies outside all segments")?;
    for (tag, value) in entries {
        let text = || string(data, strings.checked_add(value).context("string offset too large")?);
        match tag {
            DT_NEEDED => out.needed.push(text()?),
            DT_RPATH | DT_RUNPATH => out.run_path.extend(text()?.split(':').map(str::to_owned)),
            _ => {}
        }
    }
    Ok(out)
}

/// The values of `key` in the `.modinfo` section of a kernel module.
pub fn modinfo(data: &[u8], key: &str) -> Result<Vec<String>> {
    let info = section(data, ".modinfo")?;
    Ok(info
        .split(|b| *b == 0)
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once('='))
        .filter(|(k, _)| *k == key)
        .map(|(_, v)| v.to_owned())
        .collect())
}

fn segments(data: &[u8]) -> Result<Vec<Segment>> {
    check_header(data)?;
    let (table, size, count) = (u64_at(data, 32)?, u64::from(u16_at(data, 54)?), u16_at(data, 56)?);
    ensure!(count == 0 || size >= 56, "program headers of {size} bytes");
    (0..u64::from(count))
        .map(|n| {
            let at = table.checked_add(n * size).context("program header table too far away")?;
            Ok(Segment {
                kind: u32_at(data, at)?,
                offset: u64_at(data, at.saturating_add(8))?,
                address: u64_at(data, at.saturating_add(16))?,
                size: u64_at(data, at.saturating_add(32))?,
            })
        })
        .collect()
}

fn section<'a>(data: &'a [u8], name: &str) -> Result<&'a [u8]> {
    check_header(data)?;
    let (table, size, count, names) =
        (u64_at(data, 40)?, u64::from(u16_at(data, 58)?), u16_at(data, 60)?, u16_at(data, 62)?);
    ensure!(size >= 64, "section headers of {size} bytes");
    let header = |n: u16| table.checked_add(u64::from(n) * size).context("section header table too far away");
    let names = u64_at(data, header(names)?.saturating_add(24))?;
    for n in 0..count {
        let at = header(n)?;
        let own = names.checked_add(u64::from(u32_at(data, at)?)).context("section name too far away")?;
        if string(data, own)? == name {
            return slice(data, u64_at(data, at.saturating_add(24))?, u64_at(data, at.saturating_add(32))?);
        }
    }
    bail!("no section {name}")
}

fn check_header(data: &[u8]) -> Result<()> {
    ensure!(is_elf(data), "not an ELF file");
    ensure!(data.get(4..6) == Some(&[2, 1]), "not 64-bit little-endian");
    Ok(())
}

fn slice(data: &[u8], at: u64, len: u64) -> Result<&[u8]> {
    let start = usize::try_from(at)?;
    let end = start.checked_add(usize::try_from(len)?).context("range too large")?;
    data.get(start..end).with_context(|| format!("file ends before byte {end}"))
}

fn array<const N: usize>(data: &[u8], at: u64) -> Result<[u8; N]> {
    Ok(slice(data, at, N as u64)?.try_into()?)
}

fn u16_at(data: &[u8], at: u64) -> Result<u16> {
    array(data, at).map(u16::from_le_bytes)
}

fn u32_at(data: &[u8], at: u64) -> Result<u32> {
    array(data, at).map(u32::from_le_bytes)
}

fn u64_at(data: &[u8], at: u64) -> Result<u64> {
    array(data, at).map(u64::from_le_bytes)
}

fn string(data: &[u8], at: u64) -> Result<String> {
    let tail = data.get(usize::try_from(at)?..).context("string beyond the end of the file")?;
    let end = tail.iter().position(|b| *b == 0).context("unterminated string")?;
    Ok(std::str::from_utf8(tail.get(..end).unwrap_or(&[]))?.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A minimal shared object: header, PT_LOAD + PT_DYNAMIC (+ PT_INTERP), dynamic table, strings.
    pub(crate) fn fake(interpreter: Option<&str>, needed: &[&str]) -> Vec<u8> {
        let mut strings = vec![0u8];
        let mut add = |s: &str| {
            let at = strings.len() as u64;
            strings.extend_from_slice(s.as_bytes());
            strings.push(0);
            at
        };
        let mut dynamic: Vec<(u64, u64)> = needed.iter().map(|n| (DT_NEEDED, add(n))).collect();
        let interp_at = interpreter.map(&mut add);
        let headers = 2 + u64::from(interp_at.is_some());
        let dynamic_at = 64 + 56 * headers;
        let strings_at = dynamic_at + 16 * (dynamic.len() as u64 + 2);
        const BASE: u64 = 0x40_0000;
        dynamic.push((DT_STRTAB, BASE + strings_at));
        dynamic.push((DT_NULL, 0));
        let total = strings_at + strings.len() as u64;
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(64, 0);
        out[32..40].copy_from_slice(&64u64.to_le_bytes());
        out[54..56].copy_from_slice(&56u16.to_le_bytes());
        out[56..58].copy_from_slice(&(headers as u16).to_le_bytes());
        let mut segment = |kind: u32, offset: u64, size: u64| {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&4u32.to_le_bytes());
            for v in [offset, BASE + offset, BASE + offset, size, size, 1] {
                out.extend_from_slice(&v.to_le_bytes());
            }
        };
        segment(PT_LOAD, 0, total);
        segment(PT_DYNAMIC, dynamic_at, 16 * dynamic.len() as u64);
        if let Some(at) = interp_at {
            segment(PT_INTERP, strings_at + at, 1);
        }
        for (tag, value) in dynamic {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&strings);
        out
    }

    #[test]
    fn needs_are_read() {
        let d = dynamic(&fake(Some("/lib64/ld.so"), &["liba.so.1", "libc.so.6"])).unwrap();
        assert_eq!(d.interpreter.as_deref(), Some("/lib64/ld.so"));
        assert_eq!(d.needed, ["liba.so.1", "libc.so.6"]);
    }

    #[test]
    fn any_cut_or_flip_is_an_error_or_fine_but_never_a_panic() {
        let good = fake(Some("/ld"), &["libx.so"]);
        for n in 0..good.len() {
            let _ = dynamic(&good[..n]);
            for bit in [0xff, 0x80, 1] {
                let mut bad = good.clone();
                bad[n] ^= bit;
                let _ = dynamic(&bad);
                let _ = modinfo(&bad, "firmware");
            }
        }
    }

    #[test]
    fn a_real_program_is_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(is_elf(&own));
        assert_eq!(dynamic(&own).unwrap().interpreter, None, "tests are built static");
    }
}
