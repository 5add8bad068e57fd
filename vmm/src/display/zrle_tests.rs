use super::*;
use crate::{display::ramfb::Surface, memory};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

const WIDTH: u16 = 150;
const HEIGHT: u16 = 70;

/// A viewer: inflates and decodes what it is sent into pixels.
struct Viewer {
    stream: Box<InflateState>,
    pixels: Vec<u32>,
}

impl Viewer {
    fn take(&mut self, r: Rectangle, data: &[u8]) {
        assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()) as usize, data.len() - 4);
        let mut tiles = vec![0; 4 << 20];
        let result = inflate(&mut self.stream, &data[4..], &mut tiles, MZFlush::Sync);
        assert_eq!(result.bytes_consumed, data.len() - 4);
        let mut tiles = tiles[..result.bytes_written].iter().copied();
        let colour = |tiles: &mut dyn Iterator<Item = u8>| {
            let bytes: Vec<u8> = tiles.take(3).collect();
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])
        };
        for y0 in (r.y..r.y + r.height).step_by(64) {
            for x0 in (r.x..r.x + r.width).step_by(64) {
                let (w, h) = (64.min(r.x + r.width - x0), 64.min(r.y + r.height - y0));
                let count = usize::from(w) * usize::from(h);
                let mut tile = Vec::new();
                match tiles.next().unwrap() {
                    0 => tile.extend((0..count).map(|_| colour(&mut tiles))),
                    1 => tile.resize(count, colour(&mut tiles)),
                    size @ 2..=16 => {
                        let palette: Vec<u32> = (0..size).map(|_| colour(&mut tiles)).collect();
                        let bits = if size == 2 {
                            1
                        } else if size <= 4 {
                            2
                        } else {
                            4
                        };
                        for _ in 0..h {
                            let mut left = usize::from(w);
                            while left > 0 {
                                let byte = tiles.next().unwrap();
                                for n in 0..(8 / bits).min(left) {
                                    let index = byte >> (8 - bits * (n + 1)) & ((1 << bits) - 1);
                                    tile.push(palette[usize::from(index)]);
                                }
                                left = left.saturating_sub(8 / bits);
                            }
                        }
                    }
                    128 => {
                        while tile.len() < count {
                            let colour = colour(&mut tiles);
                            let mut length = 1;
                            loop {
                                let byte = tiles.next().unwrap();
                                length += usize::from(byte);
                                if byte != 255 {
                                    break;
                                }
                            }
                            tile.resize(tile.len() + length, colour);
                        }
                    }
                    other => panic!("form {other}"),
                }
                assert_eq!(tile.len(), count);
                for (n, pixel) in tile.into_iter().enumerate() {
                    let (x, y) = (usize::from(x0) + n % usize::from(w), usize::from(y0) + n / usize::from(w));
                    self.pixels[y * usize::from(WIDTH) + x] = pixel;
                }
            }
        }
        assert_eq!(tiles.next(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_viewer_sees_what_was_drawn(
        // Colours in a picture decide the form: few, some, many, with long runs or without.
        pictures in prop::collection::vec((1_u32..40, 1_usize..400, any::<u64>()), 1..5),
    ) {
        let memory = memory::create(4 << 20).unwrap();
        let surface = Surface { address: 0, width: WIDTH, height: HEIGHT, stride: u32::from(WIDTH) * 4 };
        let mut frame = Frame::default();
        let mut encoder = Encoder::default();
        let mut viewer = Viewer {
            stream: InflateState::new_boxed(miniz_oxide::DataFormat::Zlib),
            pixels: vec![0; usize::from(WIDTH) * usize::from(HEIGHT)],
        };
        for (colours, run, seed) in pictures {
            let mut state = seed | 1;
            let mut drawn = Vec::new();
            while drawn.len() < viewer.pixels.len() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let colour = ((state >> 33) as u32 % colours).wrapping_mul(0x9e_3779) & 0xff_ffff;
                let length = 1 + (state >> 17) as usize % run;
                drawn.resize((drawn.len() + length).min(viewer.pixels.len()), colour);
            }
            let bytes: Vec<u8> = drawn.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
            memory.write_slice(&bytes, GuestAddress(0)).unwrap();
            frame.update(Some(surface), &memory);
            let mut out = Vec::new();
            encoder.encode(&frame, frame.whole(), &PixelFormat::default(), &mut out).unwrap();
            viewer.take(frame.whole(), &out);
            prop_assert_eq!(&viewer.pixels, &drawn);
        }
    }
}
