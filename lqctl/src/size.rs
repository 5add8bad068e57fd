//! Sizes as people write them: `512M`, `2G`, `1.5T`, `10GiB`. Units are binary.

use lq_api::Bytes;

/// Parses a size in bytes.
pub(crate) fn parse(text: &str) -> Result<Bytes, String> {
    let wrong = || format!("`{text}` is not a size like 512M, 2G or 1.5T");
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 9 {
        return Err(wrong());
    }
    // In integers, so that every written size is exact.
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let scale = 10u128.pow(fraction.len() as u32);
    let scaled = digits.checked_mul(1u128 << shift).ok_or_else(wrong)?;
    if !scaled.is_multiple_of(scale) {
        return Err(format!("`{text}` is not a whole number of bytes"));
    }
    u64::try_from(scaled / scale).map(Bytes).map_err(|_| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512M", 512 << 20),
            ("2g", 2 << 30),
            ("1.5T", 3 << 39),
            ("10 GiB", 10 << 30),
            ("0.5k", 512),
        ] {
            assert_eq!(parse(text), Ok(Bytes(bytes)), "{text}");
        }
        for bad in ["", "M", "-1G", "1.G", ".5G", "1X", "0.3", "99999999999999999999", "17000000T", "1.2.3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
