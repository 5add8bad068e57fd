//! What is on the screen as it was last looked at, and what has changed since by tiles.
//!
//! The shadow is compared with guest memory line by line; a tile that differs is marked with the number of the look. A
//! viewer remembers the number it has seen and gets the tiles that are newer. So one comparison serves all viewers.

use super::ramfb::Surface;
use crate::memory::Memory;

/// Side of a tile in pixels.
pub const TILE: u16 = 64;
/// What is shown before the guest shows anything.
const BLANK: (u16, u16) = (640, 480);

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Left edge.
    pub x: u16,
    /// Upper edge.
    pub y: u16,
    /// Width.
    pub width: u16,
    /// Height.
    pub height: u16,
}

/// The shadow.
#[derive(Debug)]
pub struct Frame {
    width: u16,
    height: u16,
    pixels: Vec<u32>,
    /// Number of the look that last found each tile changed.
    changed: Vec<u64>,
    /// Number of the last look.
    look: u64,
    /// Number of the look that found another size.
    resized: u64,
    line: Vec<u32>,
}

impl Default for Frame {
    fn default() -> Self {
        let mut frame = Self {
            width: 0,
            height: 0,
            pixels: Vec::new(),
            changed: Vec::new(),
            look: 0,
            resized: 0,
            line: Vec::new(),
        };
        frame.resize(BLANK.0, BLANK.1);
        frame
    }
}

impl Frame {
    /// Pixels in a line.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Lines.
    #[must_use]
    pub fn height(&self) -> u16 {
        self.height
    }

    /// Number of the last look.
    #[must_use]
    pub fn look(&self) -> u64 {
        self.look
    }

    /// Number of the look that last found another size.
    #[must_use]
    pub fn resized(&self) -> u64 {
        self.resized
    }

    fn columns(&self) -> usize {
        usize::from(self.width.div_ceil(TILE))
    }

    fn resize(&mut self, width: u16, height: u16) {
        (self.width, self.height) = (width, height);
        self.pixels = vec![0; usize::from(width) * usize::from(height)];
        self.changed = vec![self.look; self.columns() * usize::from(height.div_ceil(TILE))];
        self.line = vec![0; usize::from(width)];
        self.resized = self.look;
    }

    /// Looks at the screen. Without one (the guest was reset) the last size stays, in black.
    pub fn update(&mut self, surface: Option<Surface>, memory: &Memory) {
        self.look += 1;
        if let Some(surface) = surface
            && (surface.width, surface.height) != (self.width, self.height)
        {
            self.resize(surface.width, surface.height);
        }
        let (width, columns) = (usize::from(self.width), self.columns());
        let mut line = std::mem::take(&mut self.line);
        for y in 0..self.height {
            line.fill(0);
            if let Some(surface) = &surface
                && !surface.read_line(memory, y, &mut line)
            {
                line.fill(0);
            }
            let start = usize::from(y) * width;
            let Some(old) = self.pixels.get_mut(start..start + width) else { continue };
            // Most lines of most looks have not changed.
            if *old == *line {
                continue;
            }
            let tiles = old.chunks_mut(TILE.into()).zip(line.chunks(TILE.into()));
            for (column, (old, new)) in tiles.enumerate() {
                if *old != *new {
                    old.copy_from_slice(new);
                    let tile = usize::from(y / TILE) * columns + column;
                    if let Some(changed) = self.changed.get_mut(tile) {
                        *changed = self.look;
                    }
                }
            }
        }
        self.line = line;
    }

    /// Where something changed after look `seen`, as rectangles that lie apart. Tiles beside each other are one.
    #[must_use]
    pub fn damage(&self, seen: u64) -> Vec<Rectangle> {
        let mut rectangles = Vec::new();
        for (row, tiles) in self.changed.chunks(self.columns().max(1)).enumerate() {
            let y = row as u16 * TILE;
            let height = TILE.min(self.height - y);
            let mut open: Option<Rectangle> = None;
            for (column, changed) in tiles.iter().enumerate() {
                let x = column as u16 * TILE;
                let width = TILE.min(self.width - x);
                match &mut open {
                    Some(rectangle) if *changed > seen => rectangle.width += width,
                    None if *changed > seen => open = Some(Rectangle { x, y, width, height }),
                    _ => rectangles.extend(open.take()),
                }
            }
            rectangles.extend(open);
        }
        rectangles
    }

    /// All of it.
    #[must_use]
    pub fn whole(&self) -> Rectangle {
        Rectangle { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// The pixels of a rectangle, line by line; what lies outside is left out.
    pub fn lines(&self, rectangle: Rectangle) -> impl Iterator<Item = &[u32]> {
        let (x, width) = (usize::from(rectangle.x), usize::from(rectangle.width));
        let lines = self.pixels.chunks(usize::from(self.width).max(1));
        let lines = lines.skip(rectangle.y.into()).take(rectangle.height.into());
        lines.map(move |line| line.get(x..(x + width).min(line.len())).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    const SURFACE: Surface = Surface { address: 0x1000, width: 200, height: 130, stride: 1000 };

    fn put(memory: &Memory, x: u16, y: u16, pixel: u32) {
        let at = SURFACE.address + u64::from(SURFACE.stride) * u64::from(y) + 4 * u64::from(x);
        memory.write_obj(pixel, GuestAddress(at)).unwrap();
    }

    #[test]
    fn changes_are_found_once_and_by_tiles() {
        let memory = memory::create(4 << 20).unwrap();
        let mut frame = Frame::default();
        frame.update(Some(SURFACE), &memory);
        assert_eq!((frame.width(), frame.height(), frame.resized()), (200, 130, frame.look()));
        let seen = frame.look();
        assert_eq!(frame.damage(seen), []);
        put(&memory, 199, 129, 7);
        put(&memory, 60, 3, 7);
        put(&memory, 64, 60, 7);
        frame.update(Some(SURFACE), &memory);
        assert_eq!(
            frame.damage(seen),
            [
                Rectangle { x: 0, y: 0, width: 128, height: 64 },
                Rectangle { x: 192, y: 128, width: 8, height: 2 },
            ]
        );
        let line = frame.lines(Rectangle { x: 198, y: 129, width: 9, height: 5 }).next().unwrap();
        assert_eq!(line, [0, 7]);
        let seen = frame.look();
        frame.update(None, &memory);
        assert_eq!((frame.width(), frame.damage(seen).len()), (200, 2), "black, at the same size");
    }

    proptest! {
        #[test]
        fn a_viewer_that_takes_the_damage_has_the_picture(
            dots in prop::collection::vec((0..200_u16, 0..130_u16, any::<u32>(), any::<bool>()), 0..40),
        ) {
            let memory = memory::create(4 << 20).unwrap();
            let mut frame = Frame::default();
            frame.update(Some(SURFACE), &memory);
            let mut viewer = vec![0_u32; 200 * 130];
            let mut seen = frame.look();
            for (x, y, pixel, look) in dots {
                put(&memory, x, y, pixel);
                if look {
                    frame.update(Some(SURFACE), &memory);
                    for r in frame.damage(seen) {
                        for (y, line) in (usize::from(r.y)..).zip(frame.lines(r)) {
                            let at = y * 200 + usize::from(r.x);
                            viewer[at..at + line.len()].copy_from_slice(line);
                        }
                    }
                    seen = frame.look();
                    prop_assert_eq!(&viewer, &frame.pixels);
                }
            }
        }
    }
}
