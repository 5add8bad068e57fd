//! Patterns of the manifest: `*` and `?` stay within one path segment, `**` crosses segments. Nothing else is special.

/// Whether `path` matches `pattern`; both are compared byte by byte, without a leading slash.
pub fn matches(pattern: &str, path: &str) -> bool {
    match_bytes(pattern.as_bytes(), path.as_bytes())
}

/// Whether any of `patterns` matches `path`.
pub fn any(patterns: &[String], path: &str) -> bool {
    patterns.iter().any(|p| matches(p, path))
}

fn match_bytes(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => {
            // `a/**/b` also matches `a/b`: the slash behind `**` may match nothing.
            let short = rest.strip_prefix(b"/").unwrap_or(rest);
            match_bytes(short, path)
                || (0..=path.len()).any(|n| match_bytes(rest, path.get(n..).unwrap_or(&[])))
        }
        [b'*', rest @ ..] => {
            let end = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
            (0..=end).any(|n| match_bytes(rest, path.get(n..).unwrap_or(&[])))
        }
        [p, rest @ ..] => match path {
            [c, tail @ ..] if (*p == b'?' && *c != b'/') || p == c => match_bytes(rest, tail),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_in_its_segment() {
        assert!(matches("drivers/ata/*.ko", "drivers/ata/ahci.ko"));
        assert!(!matches("drivers/*.ko", "drivers/ata/ahci.ko"));
        assert!(matches("fs/nls/nls_*.ko", "fs/nls/nls_utf8.ko"));
        assert!(matches("s?_mod", "sd_mod"));
        assert!(!matches("a?b", "a/b"));
    }

    #[test]
    fn two_stars_cross_segments() {
        assert!(matches("drivers/net/ethernet/**", "drivers/net/ethernet/intel/e1000/e1000.ko"));
        assert!(matches("**/dm-*.ko", "drivers/md/dm-mod.ko"));
        assert!(matches("**/loop.ko", "loop.ko"));
        assert!(matches("a/**/b", "a/b"));
        assert!(matches("a/**/b", "a/x/y/b"));
        assert!(!matches("drivers/net/**", "drivers/network"));
        assert!(!matches("a/**/b", "ab"));
    }
}
