//! Pixels in the form a viewer wants (RFC 6143, 7.4).

/// How a viewer wants its pixels. True colour only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat {
    bytes: u8,
    depth: u8,
    big_endian: bool,
    /// Largest value and position of red, green and blue.
    channels: [(u16, u8); 3],
}

impl Default for PixelFormat {
    /// What the screen has: 32 bits, red highest.
    fn default() -> Self {
        Self { bytes: 4, depth: 24, big_endian: false, channels: [(255, 16), (255, 8), (255, 0)] }
    }
}

impl PixelFormat {
    /// Reads the 16 bytes of a `PIXEL_FORMAT`. `None`: not a true colour of 8, 16 or 32 bits.
    #[must_use]
    pub fn parse(bytes: &[u8; 16]) -> Option<Self> {
        let [bits, depth, big_endian, true_colour, r0, r1, g0, g1, b0, b1, red, green, blue, ..] = *bytes;
        let max = |high, low| u16::from_be_bytes([high, low]);
        let channels = [(max(r0, r1), red), (max(g0, g1), green), (max(b0, b1), blue)];
        let fits = |(max, shift): &(u16, u8)| {
            u64::from(*max).checked_shl((*shift).into()).is_some_and(|top| *shift < 32 && top >> bits == 0)
        };
        if !matches!(bits, 8 | 16 | 32) || true_colour == 0 || !channels.iter().all(fits) {
            return None;
        }
        Some(Self { bytes: bits / 8, depth, big_endian: big_endian != 0, channels })
    }

    /// The 16 bytes of a `PIXEL_FORMAT`.
    #[must_use]
    pub fn encode(&self) -> [u8; 16] {
        let [(red, r), (green, g), (blue, b)] = self.channels;
        let ([r0, r1], [g0, g1], [b0, b1]) = (red.to_be_bytes(), green.to_be_bytes(), blue.to_be_bytes());
        let bits = self.bytes * 8;
        [bits, self.depth, self.big_endian.into(), 1, r0, r1, g0, g1, b0, b1, r, g, b, 0, 0, 0]
    }

    /// A pixel of the screen as a number of this format.
    #[must_use]
    pub fn convert(&self, pixel: u32) -> u32 {
        [16_u32, 8, 0].into_iter().zip(self.channels).fold(0, |value, (from, (max, shift))| {
            let channel = pixel >> from & 0xff;
            let scaled = if max == 255 { channel } else { (channel * u32::from(max) + 127) / 255 };
            value | scaled << shift
        })
    }

    /// Appends a converted pixel.
    pub fn push(&self, value: u32, out: &mut Vec<u8>) {
        self.push_bytes(value, self.bytes.into(), 0, out);
    }

    /// Which bytes of a pixel ZRLE sends (RFC 6143, 7.7.5): how many, and how many low ones are left out.
    fn compact(&self) -> (usize, u32) {
        let used = self.channels.iter().fold(0, |bits, (max, shift)| bits | u32::from(*max) << shift);
        match (self.bytes, self.depth) {
            (4, ..=24) if used < 1 << 24 => (3, 0),
            (4, ..=24) if used & 0xff == 0 => (3, 8),
            (bytes, _) => (bytes.into(), 0),
        }
    }

    /// Appends a converted pixel as ZRLE sends it.
    pub fn push_compact(&self, value: u32, out: &mut Vec<u8>) {
        let (bytes, shift) = self.compact();
        self.push_bytes(value, bytes, shift, out);
    }

    /// Bytes of a pixel as ZRLE sends it.
    #[must_use]
    pub fn compact_bytes(&self) -> usize {
        self.compact().0
    }

    fn push_bytes(&self, value: u32, bytes: usize, shift: u32, out: &mut Vec<u8>) {
        let little = (value >> shift).to_le_bytes();
        let used = little.get(..bytes).unwrap_or_default();
        if self.big_endian { out.extend(used.iter().rev()) } else { out.extend(used) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(format: &PixelFormat, pixel: u32) -> (Vec<u8>, Vec<u8>) {
        let (mut plain, mut compact) = (Vec::new(), Vec::new());
        format.push(format.convert(pixel), &mut plain);
        format.push_compact(format.convert(pixel), &mut compact);
        (plain, compact)
    }

    #[test]
    fn pixels_come_as_wanted() {
        let own = PixelFormat::default();
        assert_eq!(PixelFormat::parse(&own.encode()), Some(own));
        assert_eq!(bytes(&own, 0xff11_2233), (vec![0x33, 0x22, 0x11, 0], vec![0x33, 0x22, 0x11]));
        // Red lowest, as browsers want it.
        let rgb = PixelFormat { channels: [(255, 0), (255, 8), (255, 16)], ..own };
        assert_eq!(bytes(&rgb, 0x11_2233).0, [0x11, 0x22, 0x33, 0]);
        let high = PixelFormat { channels: [(255, 24), (255, 16), (255, 8)], big_endian: true, ..own };
        assert_eq!(bytes(&high, 0x11_2233), (vec![0x11, 0x22, 0x33, 0], vec![0x11, 0x22, 0x33]));
        let small =
            PixelFormat { bytes: 2, depth: 16, channels: [(31, 11), (63, 5), (31, 0)], big_endian: false };
        assert_eq!(bytes(&small, 0xff_ffff).0, [0xff, 0xff]);
        assert_eq!(bytes(&small, 0xff_0000).1, [0x00, 0xf8]);
    }

    #[test]
    fn what_is_no_true_colour_is_refused() {
        let own = PixelFormat::default().encode();
        for (at, value) in [(0, 24), (0, 8), (3, 0), (10, 32), (10, 255)] {
            let mut bad = own;
            bad[at] = value;
            assert_eq!(PixelFormat::parse(&bad), None, "{at} = {value}");
        }
    }
}
