//! The code that is read from one screen and typed at another: eight symbols of an alphabet without look-alikes.

use rand::TryRngCore as _;

/// Digits and capitals without `0`, `O`, `1` and `I`.
const SYMBOLS: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// Symbols of a code: 40 bits.
const LENGTH: usize = 8;

/// A pairing code.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Code([u8; LENGTH]);

impl Code {
    /// A new one.
    pub(super) fn random() -> Result<Self, String> {
        let mut bytes = [0u8; LENGTH];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|e| e.to_string())?;
        // 256 is a multiple of 32: every symbol is as likely as any other.
        Ok(Self(bytes.map(|b| SYMBOLS.get(usize::from(b % 32)).copied().unwrap_or(b'2'))))
    }

    /// What a person typed: case, spaces and dashes do not matter.
    pub(in crate::cluster) fn parse(text: &str) -> Option<Self> {
        let mut symbols = text.bytes().filter(|b| !matches!(b, b' ' | b'-')).map(|b| b.to_ascii_uppercase());
        let mut code = [0u8; LENGTH];
        for place in &mut code {
            *place = symbols.next().filter(|s| SYMBOLS.contains(s))?;
        }
        symbols.next().is_none().then_some(Self(code))
    }

    /// What the exchange knows it by.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it is shown: two groups of four.
    pub(super) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let (first, second) = text.split_at(LENGTH / 2);
        format!("{first}-{second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_shown_is_read_however_it_is_typed() {
        let code = Code::random().unwrap();
        let shown = code.shown();
        assert_eq!(shown.len(), 9);
        for typed in [shown.clone(), shown.to_lowercase(), shown.replace('-', ""), format!(" {shown} ")] {
            assert!(Code::parse(&typed) == Some(code.clone()), "{typed}");
        }
        assert!(Code::random().unwrap() != code);
    }

    proptest! {
        #[test]
        fn nothing_else_is_a_code(text in ".{0,20}") {
            if let Some(code) = Code::parse(&text) {
                prop_assert!(Code::parse(&code.shown()) == Some(code));
            }
        }
    }

    #[test]
    fn look_alikes_and_wrong_lengths_are_refused() {
        for bad in ["", "ABCD-EFG", "ABCD-EFGHJ", "ABCD-EFG0", "ABCD-EFGI", "ABCD_EFGH"] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
    }
}
