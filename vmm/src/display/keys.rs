//! Key symbols of RFB (those of X11) as keys of a keyboard with US layout, for viewers that do not name the key itself.
//!
//! Shifted and unshifted symbol are the same key: viewers send Shift as a key of its own. A symbol no US key bears is not
//! known; viewers with QEMU's extension name the key, and then the guest's own layout counts.

/// Latin letters and signs, in the order of the keys' scan codes: unshifted, shifted.
const ROWS: [(u8, &str, &str); 4] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
];

/// Keys that bear no sign: symbol and name of the key (scan code of set 1, bit 7: with prefix E0).
const NAMED: &[(u32, u8)] = &[
    (0xff08, 0x0e), // BackSpace
    (0xff09, 0x0f), // Tab
    (0xfe20, 0x0f), // ISO_Left_Tab
    (0xff0d, 0x1c), // Return
    (0xff13, crate::legacy::keyboard::PAUSE_KEY),
    (0xff14, 0x46), // Scroll_Lock
    (0xff15, 0xb7), // Sys_Req
    (0xff1b, 0x01), // Escape
    (0xff50, 0xc7), // Home
    (0xff51, 0xcb), // Left
    (0xff52, 0xc8), // Up
    (0xff53, 0xcd), // Right
    (0xff54, 0xd0), // Down
    (0xff55, 0xc9), // Page_Up
    (0xff56, 0xd1), // Page_Down
    (0xff57, 0xcf), // End
    (0xff61, 0xb7), // Print
    (0xff63, 0xd2), // Insert
    (0xff67, 0xdd), // Menu
    (0xff7f, 0x45), // Num_Lock
    (0xff8d, 0x9c), // KP_Enter
    (0xff95, 0x47), // KP_Home
    (0xff96, 0x4b), // KP_Left
    (0xff97, 0x48), // KP_Up
    (0xff98, 0x4d), // KP_Right
    (0xff99, 0x50), // KP_Down
    (0xff9a, 0x49), // KP_Page_Up
    (0xff9b, 0x51), // KP_Page_Down
    (0xff9c, 0x4f), // KP_End
    (0xff9d, 0x4c), // KP_Begin
    (0xff9e, 0x52), // KP_Insert
    (0xff9f, 0x53), // KP_Delete
    (0xffaa, 0x37), // KP_Multiply
    (0xffab, 0x4e), // KP_Add
    (0xffad, 0x4a), // KP_Subtract
    (0xffae, 0x53), // KP_Decimal
    (0xffaf, 0xb5), // KP_Divide
    (0xffb0, 0x52), // KP_0
    (0xffb1, 0x4f),
    (0xffb2, 0x50),
    (0xffb3, 0x51),
    (0xffb4, 0x4b),
    (0xffb5, 0x4c),
    (0xffb6, 0x4d),
    (0xffb7, 0x47),
    (0xffb8, 0x48),
    (0xffb9, 0x49), // KP_9
    (0xffc8, 0x57), // F11
    (0xffc9, 0x58), // F12
    (0xffe1, 0x2a), // Shift_L
    (0xffe2, 0x36), // Shift_R
    (0xffe3, 0x1d), // Control_L
    (0xffe4, 0x9d), // Control_R
    (0xffe5, 0x3a), // Caps_Lock
    (0xffe7, 0xdb), // Meta_L
    (0xffe8, 0xdc), // Meta_R
    (0xffe9, 0x38), // Alt_L
    (0xffea, 0xb8), // Alt_R
    (0xffeb, 0xdb), // Super_L
    (0xffec, 0xdc), // Super_R
    (0xfe03, 0xb8), // ISO_Level3_Shift
    (0xffff, 0xd3), // Delete
    (0x0020, 0x39), // space
    (0x00a0, 0x39), // nobreakspace
];

/// The key that bears `symbol`.
#[must_use]
pub fn key(symbol: u32) -> Option<u8> {
    if let Some((_, key)) = NAMED.iter().find(|(named, _)| *named == symbol) {
        return Some(*key);
    }
    // F1 to F10.
    if let 0xffbe..=0xffc7 = symbol {
        return Some(0x3b + (symbol - 0xffbe) as u8);
    }
    let sign = char::from_u32(symbol)?;
    ROWS.iter().find_map(|(first, plain, shifted)| {
        let place = plain.chars().position(|c| c == sign).or_else(|| shifted.chars().position(|c| c == sign));
        place.map(|n| first + n as u8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_sign_and_the_usual_keys_are_known() {
        for sign in ' '..='~' {
            assert!(key(sign.into()).is_some(), "{sign}");
        }
        for (symbol, expected) in [
            (u32::from(b'a'), 0x1e),
            (u32::from(b'A'), 0x1e),
            (u32::from(b'1'), 0x02),
            (u32::from(b'='), 0x0d),
            (u32::from(b'`'), 0x29),
            (u32::from(b'\\'), 0x2b),
            (u32::from(b'/'), 0x35),
            (0xff0d, 0x1c),
            (0xff52, 0xc8),
            (0xffbe, 0x3b),
            (0xffc7, 0x44),
            (0xffc9, 0x58),
        ] {
            assert_eq!(key(symbol), Some(expected), "{symbol:#x}");
        }
        assert_eq!(key(0x20ac), None, "no US key bears the euro sign");
    }
}
