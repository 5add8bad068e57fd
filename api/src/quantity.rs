//! Quantities with a unit.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = u64))]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// 1 KiB.
    pub const KIB: u64 = 1 << 10;
    /// 1 MiB.
    pub const MIB: u64 = 1 << 20;
    /// 1 GiB.
    pub const GIB: u64 = 1 << 30;

    /// `n` mebibytes (saturating).
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(Self::MIB))
    }
    /// `n` gibibytes (saturating).
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(Self::GIB))
    }
    /// Both together (saturating).
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
    /// What is left without the other, at least 0.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Bytes {
    /// The largest binary unit in which the number stays at least 1, with one decimal where it is not whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let exponent = (self.0.max(1).ilog2() / 10) as usize;
        let unit = 1u64 << (10 * exponent);
        if self.0.is_multiple_of(unit) {
            write!(f, "{} {}", self.0 / unit, UNITS[exponent])
        } else {
            write!(f, "{:.1} {}", self.0 as f64 / unit as f64, UNITS[exponent])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_in_the_largest_fitting_unit() {
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes::gib(2).to_string(), "2 GiB");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16.0 EiB");
    }
}
