//! ZRLE (RFC 6143, 7.7.6): tiles of 64 pixels, each in the shortest of a few forms, through one zlib stream a viewer.
//!
//! Forms used: one colour, a palette of 2 to 16 packed into bits, runs, and plain pixels.

use super::{
    frame::{Frame, Rectangle, TILE},
    pixels::PixelFormat,
};
use miniz_oxide::{
    MZError, MZFlush,
    deflate::{
        core::{CompressorOxide, create_comp_flags_from_zip_params},
        stream::deflate,
    },
};

const SOLID: u8 = 1;
const RUNS: u8 = 128;
const MAX_PALETTE: usize = 16;
/// Fast; what is drawn on screens compresses well at any level.
const LEVEL: i32 = 1;
const ZLIB_HEADER: i32 = 15;
const CHUNK: usize = 32 << 10;

/// The encoder of one viewer: its stream goes on from rectangle to rectangle.
pub struct Encoder {
    stream: Box<CompressorOxide>,
    tiles: Vec<u8>,
    tile: Vec<u32>,
}

impl Default for Encoder {
    fn default() -> Self {
        let flags = create_comp_flags_from_zip_params(LEVEL, ZLIB_HEADER, 0);
        Self { stream: Box::new(CompressorOxide::new(flags)), tiles: Vec::new(), tile: Vec::new() }
    }
}

impl Encoder {
    /// Appends a rectangle of `frame`: length, then compressed tiles.
    ///
    /// # Errors
    /// The stream broke; the viewer cannot be served any more.
    pub fn encode(
        &mut self,
        frame: &Frame,
        rectangle: Rectangle,
        format: &PixelFormat,
        out: &mut Vec<u8>,
    ) -> Result<(), MZError> {
        self.tiles.clear();
        for y in (0..rectangle.height).step_by(TILE.into()) {
            for x in (0..rectangle.width).step_by(TILE.into()) {
                let tile = Rectangle {
                    x: rectangle.x + x,
                    y: rectangle.y + y,
                    width: TILE.min(rectangle.width - x),
                    height: TILE.min(rectangle.height - y),
                };
                self.tile.clear();
                for line in frame.lines(tile) {
                    self.tile.extend(line.iter().map(|pixel| format.convert(*pixel)));
                }
                encode_tile(&self.tile, tile.width.into(), format, &mut self.tiles);
            }
        }
        let at = out.len();
        out.extend([0; 4]);
        self.compress(out)?;
        let length = (out.len() - at - 4) as u32;
        if let Some(place) = out.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    /// Compresses all of `tiles`, so that the viewer can read to its end.
    fn compress(&mut self, out: &mut Vec<u8>) -> Result<(), MZError> {
        let mut input = self.tiles.as_slice();
        loop {
            let start = out.len();
            out.resize(start + CHUNK, 0);
            let room = out.get_mut(start..).unwrap_or_default();
            let result = deflate(&mut self.stream, input, room, MZFlush::Sync);
            out.truncate(start + result.bytes_written);
            input = input.get(result.bytes_consumed..).unwrap_or_default();
            match result.status {
                // With room left over nothing waits inside.
                Ok(_) if input.is_empty() && result.bytes_written < CHUNK => return Ok(()),
                // Nothing more to flush.
                Err(MZError::Buf) if input.is_empty() => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn encode_tile(pixels: &[u32], width: usize, format: &PixelFormat, out: &mut Vec<u8>) {
    let mut palette: Vec<u32> = Vec::with_capacity(MAX_PALETTE);
    let mut many = false;
    let mut runs = 0;
    let mut last = None;
    for pixel in pixels {
        if last == Some(*pixel) {
            continue;
        }
        last = Some(*pixel);
        runs += 1;
        if !many && !palette.contains(pixel) {
            many = palette.len() == MAX_PALETTE;
            if !many {
                palette.push(*pixel);
            }
        }
    }
    let bytes = format.compact_bytes();
    match palette.as_slice() {
        [only] if !many => {
            out.push(SOLID);
            format.push_compact(*only, out);
        }
        _ if !many => packed(pixels, width, &palette, format, out),
        _ if runs * (bytes + 1) < pixels.len() * bytes => in_runs(pixels, format, out),
        _ => {
            out.push(0);
            pixels.iter().for_each(|pixel| format.push_compact(*pixel, out));
        }
    }
}

/// Indices into a palette, packed from the highest bit on; each line begins a byte.
fn packed(pixels: &[u32], width: usize, palette: &[u32], format: &PixelFormat, out: &mut Vec<u8>) {
    out.push(palette.len() as u8);
    palette.iter().for_each(|colour| format.push_compact(*colour, out));
    let bits = match palette.len() {
        0..=2 => 1,
        3..=4 => 2,
        _ => 4,
    };
    for line in pixels.chunks(width.max(1)) {
        for group in line.chunks(8 / bits) {
            let byte = group.iter().enumerate().fold(0, |byte, (n, pixel)| {
                let index = palette.iter().position(|colour| colour == pixel).unwrap_or(0);
                byte | index << (8 - bits * (n + 1))
            });
            out.push(byte as u8);
        }
    }
}

/// Colour and length of each run; lengths are one less, in bytes of which all but the last are 255.
fn in_runs(pixels: &[u32], format: &PixelFormat, out: &mut Vec<u8>) {
    out.push(RUNS);
    for run in pixels.chunk_by(|a, b| a == b) {
        if let Some(colour) = run.first() {
            format.push_compact(*colour, out);
        }
        let mut left = run.len() - 1;
        while left >= 255 {
            out.push(255);
            left -= 255;
        }
        out.push(left as u8);
    }
}

#[cfg(test)]
#[path = "zrle_tests.rs"]
mod tests;
