//! `ramfb`: the guest names a framebuffer in its memory by writing `etc/ramfb` of fw_cfg (QEMU `hw/display/ramfb.c`).
//!
//! | offset | bytes | field, big endian |
//! |---|---|---|
//! | 0 | 8 | address |
//! | 8 | 4 | format, a DRM fourcc |
//! | 12 | 4 | flags, 0 |
//! | 16, 20 | 4, 4 | width, height in pixels |
//! | 24 | 4 | bytes from one line to the next; 0: no gap |

use crate::memory::Memory;
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// Name of its file.
pub const FILE: &str = "etc/ramfb";
/// Bytes of the file.
pub const SIZE: usize = 28;
/// Most pixels in one direction.
pub const MAX_SIDE: u32 = 8192;
/// Most bytes of a framebuffer.
pub const MAX_BYTES: usize = 256 << 20;
/// 32 bits a pixel: blue, green, red, nothing. What firmware and simple framebuffers use.
const XRGB8888: u32 = u32::from_le_bytes(*b"XR24");
/// The same with an alpha nobody looks at.
const ARGB8888: u32 = u32::from_le_bytes(*b"AR24");

/// A framebuffer of 32-bit pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surface {
    /// Guest-physical address of its first pixel.
    pub address: u64,
    /// Pixels in a line.
    pub width: u16,
    /// Lines.
    pub height: u16,
    /// Bytes from one line to the next.
    pub stride: u32,
}

impl Surface {
    /// What the file says; `None` where it says nothing that can be shown.
    #[must_use]
    pub fn parse(file: &[u8], memory: &Memory) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(file.get(at..at + 4)?.try_into().ok()?));
        let address = u64::from(word(0)?) << 32 | u64::from(word(4)?);
        let (format, width, height, stride) = (word(8)?, word(16)?, word(20)?, word(24)?);
        let sides = 1..=MAX_SIDE;
        if !matches!(format, XRGB8888 | ARGB8888) || !sides.contains(&width) || !sides.contains(&height) {
            return None;
        }
        let line = width * 4;
        let stride = if stride == 0 { line } else { stride };
        let surface = Self { address, width: width as u16, height: height as u16, stride };
        let fits = stride >= line
            && surface.bytes() <= MAX_BYTES
            && memory.check_range(GuestAddress(address), surface.bytes());
        fits.then_some(surface)
    }

    /// From its first to its last byte.
    fn bytes(&self) -> usize {
        (self.stride as usize) * (usize::from(self.height) - 1) + usize::from(self.width) * 4
    }

    /// Reads line `y` into `pixels` (the width of the surface). False: it is not in memory any more.
    pub fn read_line(&self, memory: &Memory, y: u16, pixels: &mut [u32]) -> bool {
        let at = GuestAddress(self.address + u64::from(self.stride) * u64::from(y));
        // SAFETY: plain numbers may be seen as their bytes; the slice covers exactly theirs.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(pixels.as_mut_ptr().cast::<u8>(), std::mem::size_of_val(pixels))
        };
        memory.read_slice(bytes, at).is_ok()
    }
}

/// What is shown now; shared between fw_cfg, which sets it, and the display's thread.
#[derive(Clone, Debug, Default)]
pub struct Screen(Arc<Mutex<Option<Surface>>>);

impl Screen {
    /// The guest has written the file (or it was reset: `None`).
    pub fn set(&self, surface: Option<Surface>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = surface;
    }

    /// What is shown.
    #[must_use]
    pub fn get(&self) -> Option<Surface> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use proptest::prelude::*;

    fn file(address: u64, format: u32, width: u32, height: u32, stride: u32) -> Vec<u8> {
        let mut file = address.to_be_bytes().to_vec();
        for word in [format, 0, width, height, stride] {
            file.extend(word.to_be_bytes());
        }
        file
    }

    #[test]
    fn a_framebuffer_is_found_and_read() {
        let memory = memory::create(4 << 20).unwrap();
        let surface = Surface::parse(&file(0x10_0000, XRGB8888, 4, 2, 32), &memory).unwrap();
        assert_eq!(surface, Surface { address: 0x10_0000, width: 4, height: 2, stride: 32 });
        memory.write_slice(&[1, 2, 3, 4, 5, 6, 7, 8], GuestAddress(0x10_0020)).unwrap();
        let mut line = [0; 4];
        assert!(surface.read_line(&memory, 1, &mut line));
        assert_eq!(line, [0x0403_0201, 0x0807_0605, 0, 0]);
        assert_eq!(Surface::parse(&file(0, XRGB8888, 4, 2, 0), &memory).unwrap().stride, 16);
    }

    #[test]
    fn what_cannot_be_shown_is_nothing() {
        let memory = memory::create(4 << 20).unwrap();
        for bad in [
            file(0, 0, 4, 2, 0),
            file(0, XRGB8888, 0, 2, 0),
            file(0, XRGB8888, 4, MAX_SIDE + 1, 0),
            file(0, XRGB8888, 4, 2, 12),
            file((4 << 20) - 4, XRGB8888, 4, 2, 0),
            file(u64::MAX, XRGB8888, 4, 2, 0),
            file(0, XRGB8888, 8000, 8000, u32::MAX),
            vec![0; 5],
        ] {
            assert_eq!(Surface::parse(&bad, &memory), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_can_be_read(words in prop::collection::vec(prop_oneof![0_u32..10_000, any::<u32>()], 5), address in 0_u64..5 << 20) {
            let memory = memory::create(4 << 20).unwrap();
            let bytes = file(address, XRGB8888, words[0] % 2000, words[1] % 2000, words[2] % 9000);
            if let Some(surface) = Surface::parse(&bytes, &memory) {
                let mut line = vec![0; usize::from(surface.width)];
                for y in 0..surface.height {
                    prop_assert!(surface.read_line(&memory, y, &mut line));
                }
            }
        }
    }
}
