//! One viewer's side of the RFB protocol (RFC 6143; versions 3.3, 3.7 and 3.8), without I/O: bytes in, bytes out.
//!
//! ```text
//!  VERSION ─▶ SECURITY ─▶ INIT ─▶ READY ⟲ messages
//!     └── 3.3: the server decides ──▲
//! ```
//! No password: whoever reaches the socket was let in by the daemon. Encodings: Raw, ZRLE; of the pseudo-encodings
//! DesktopSize, ExtendedDesktopSize (the viewer is told sizes; its wish for another is declined) and QEMU's extended keys.
//!
//! Invariants: what is kept of incomplete input is bounded by [`MAX_MESSAGE`]; pictures are only put into an empty output,
//! so a viewer that does not read holds one picture at most.

use super::{
    frame::{Frame, Rectangle},
    pixels::PixelFormat,
    zrle,
};

/// Longest message taken from a viewer; longer clipboard texts end the connection.
pub const MAX_MESSAGE: usize = 1 << 20;
const VERSION: &[u8; 12] = b"RFB 003.008\n";
const SECURITY_NONE: u8 = 1;

const RAW: i32 = 0;
const ZRLE: i32 = 16;
const DESKTOP_SIZE: i32 = -223;
const QEMU_EXTENDED_KEYS: i32 = -258;
const EXTENDED_DESKTOP_SIZE: i32 = -308;

/// Why a size is told: the server changed it; a viewer asked for it.
const SIZE_BY_SERVER: u16 = 0;
const SIZE_BY_VIEWER: u16 = 1;
/// What became of a wish: nothing, forbidden.
const SIZE_DECLINED: u16 = 1;

/// What a viewer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key goes down or up: its symbol, and its name where the viewer told it.
    Key {
        /// Down.
        down: bool,
        /// Of X11.
        symbol: u32,
        /// Scan code of set 1, bit 7: with prefix E0.
        code: Option<u8>,
    },
    /// The pointer is here, with these buttons down (bit 0 left, 1 middle, 2 right, 3 and 4 the wheel up and down).
    Pointer {
        /// Pixels from the left.
        x: u16,
        /// Pixels from above.
        y: u16,
        /// Buttons.
        buttons: u8,
    },
}

/// Why a viewer is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not speak RFB.
    #[error("it does not speak RFB")]
    Version,
    /// It asked for a kind of security that was not offered.
    #[error("it wants a kind of security that is not offered")]
    Security,
    /// A message nobody knows.
    #[error("message {0} is not known")]
    Message(u8),
    /// Longer than is taken.
    #[error("a message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Colours by a map, or of another size.
    #[error("it wants pixels that are no true colours of 8, 16 or 32 bits")]
    Pixels,
    /// Our compressor gave up.
    #[error("its stream of pictures broke")]
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Version,
    Security { tell_result: bool },
    Init,
    Ready,
}

/// The area a viewer wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    incremental: bool,
    area: Rectangle,
}

/// A viewer.
pub struct Viewer {
    stage: Stage,
    name: String,
    input: Vec<u8>,
    output: Vec<u8>,
    format: PixelFormat,
    zrle: Option<zrle::Encoder>,
    prefers_zrle: bool,
    resizes: bool,
    resizes_extended: bool,
    extended_keys: bool,
    /// The viewer was told of the extended keys.
    keys_told: bool,
    wanted: Option<Wanted>,
    /// Number of the look it has.
    seen: u64,
    /// Size it knows.
    size: (u16, u16),
    /// It must be told the size although it is the same.
    tell_size: Option<(u16, u16)>,
}

impl Viewer {
    /// Of a machine called `name`. The greeting is in its output.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            stage: Stage::Version,
            name: name.to_owned(),
            input: Vec::new(),
            output: VERSION.to_vec(),
            format: PixelFormat::default(),
            zrle: None,
            prefers_zrle: false,
            resizes: false,
            resizes_extended: false,
            extended_keys: false,
            keys_told: false,
            wanted: None,
            seen: 0,
            size: (0, 0),
            tell_size: None,
        }
    }

    /// What is to be sent.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// It waits for a picture, so the screen is to be looked at.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.wanted.is_some() && self.output.is_empty()
    }

    /// Takes bytes it sent; returns what it does. `frame` is what it is shown.
    ///
    /// # Errors
    /// It is to be disconnected; what came before the fault is lost with it.
    pub fn take(&mut self, bytes: &[u8], frame: &Frame) -> Result<Vec<Input>, Fault> {
        let mut input = std::mem::take(&mut self.input);
        input.extend(bytes);
        let mut inputs = Vec::new();
        let mut rest = input.as_slice();
        while let Some(used) = self.step(rest, frame, &mut inputs)? {
            rest = rest.get(used..).unwrap_or_default();
        }
        if rest.len() > MAX_MESSAGE {
            return Err(Fault::TooLong);
        }
        let used = input.len() - rest.len();
        input.drain(..used);
        self.input = input;
        Ok(inputs)
    }

    /// Does what the first whole message in `rest` says; its length, or `None` where it is not whole.
    fn step(&mut self, rest: &[u8], frame: &Frame, inputs: &mut Vec<Input>) -> Result<Option<usize>, Fault> {
        match self.stage {
            Stage::Version => {
                let Some(version) = rest.get(..VERSION.len()) else { return Ok(None) };
                let minor = match version {
                    b"RFB 003.003\n" => 3,
                    b"RFB 003.007\n" => 7,
                    b"RFB 003.008\n" => 8,
                    // Some viewers say numbers of their own; they mean 3.3 (RFC 6143, 7.1.1).
                    _ if version.starts_with(b"RFB 003.") => 3,
                    _ => return Err(Fault::Version),
                };
                if minor == 3 {
                    self.output.extend(u32::from(SECURITY_NONE).to_be_bytes());
                    self.stage = Stage::Init;
                } else {
                    self.output.extend([1, SECURITY_NONE]);
                    self.stage = Stage::Security { tell_result: minor == 8 };
                }
                Ok(Some(VERSION.len()))
            }
            Stage::Security { tell_result } => {
                let Some(kind) = rest.first() else { return Ok(None) };
                if *kind != SECURITY_NONE {
                    return Err(Fault::Security);
                }
                if tell_result {
                    self.output.extend([0; 4]);
                }
                self.stage = Stage::Init;
                Ok(Some(1))
            }
            Stage::Init => {
                // Whether others may stay connected: they always may.
                if rest.is_empty() {
                    return Ok(None);
                }
                self.size = (frame.width(), frame.height());
                self.output.extend(self.size.0.to_be_bytes());
                self.output.extend(self.size.1.to_be_bytes());
                self.output.extend(self.format.encode());
                self.output.extend((self.name.len() as u32).to_be_bytes());
                self.output.extend(self.name.as_bytes());
                self.stage = Stage::Ready;
                Ok(Some(1))
            }
            Stage::Ready => self.message(rest, inputs),
        }
    }

    fn message(&mut self, rest: &[u8], inputs: &mut Vec<Input>) -> Result<Option<usize>, Fault> {
        let Some(kind) = rest.first() else { return Ok(None) };
        let short = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let mut whole = || -> Option<Result<usize, Fault>> {
            Some(Ok(match kind {
                0 => {
                    let bytes: &[u8; 16] = rest.get(4..20)?.try_into().ok()?;
                    let Some(format) = PixelFormat::parse(bytes) else { return Some(Err(Fault::Pixels)) };
                    self.format = format;
                    20
                }
                2 => {
                    let count = usize::from(short(2)?);
                    let listed = rest.get(4..4 + 4 * count)?;
                    self.set_encodings(listed);
                    4 + 4 * count
                }
                3 => {
                    let area = Rectangle { x: short(2)?, y: short(4)?, width: short(6)?, height: short(8)? };
                    self.want(Wanted { incremental: *rest.get(1)? != 0, area });
                    10
                }
                4 => {
                    inputs.push(Input::Key { down: *rest.get(1)? != 0, symbol: long(4)?, code: None });
                    8
                }
                5 => {
                    inputs.push(Input::Pointer { buttons: *rest.get(1)?, x: short(2)?, y: short(4)? });
                    6
                }
                // A clipboard text: there is nobody in the guest to take it. Negative: an extension nobody agreed on.
                6 => {
                    let length = long(4)?.cast_signed().unsigned_abs() as usize;
                    if length > MAX_MESSAGE - 8 {
                        return Some(Err(Fault::TooLong));
                    }
                    rest.get(..8 + length)?;
                    8 + length
                }
                // A wish for another size.
                251 => {
                    let screens = usize::from(*rest.get(6)?);
                    rest.get(..8 + 16 * screens)?;
                    self.tell_size = Some((SIZE_BY_VIEWER, SIZE_DECLINED));
                    8 + 16 * screens
                }
                255 if *rest.get(1)? == 0 => {
                    let (down, symbol, code) = (short(2)? != 0, long(4)?, long(8)?);
                    // Codes with prefix E0 come as 0xe0xx or with bit 7.
                    let code = if code >> 8 == 0xe0 { code & 0x7f | 0x80 } else { code };
                    inputs.push(Input::Key {
                        down,
                        symbol,
                        code: u8::try_from(code).ok().filter(|c| *c != 0),
                    });
                    12
                }
                other => return Some(Err(Fault::Message(*other))),
            }))
        };
        whole().transpose()
    }

    fn set_encodings(&mut self, listed: &[u8]) {
        let mut encodings = Vec::with_capacity(listed.len() / 4);
        encodings.extend(listed.chunks_exact(4).map(|e| i32::from_be_bytes([e[0], e[1], e[2], e[3]])));
        let has = |encoding| encodings.contains(&encoding);
        // The order is the viewer's preference.
        self.prefers_zrle = encodings.iter().find(|e| matches!(**e, RAW | ZRLE)) == Some(&ZRLE);
        self.resizes = has(DESKTOP_SIZE);
        if has(EXTENDED_DESKTOP_SIZE) && !self.resizes_extended {
            // That the server can tell sizes is told by telling one.
            self.tell_size = Some((SIZE_BY_SERVER, 0));
        }
        self.resizes_extended = has(EXTENDED_DESKTOP_SIZE);
        self.extended_keys = has(QEMU_EXTENDED_KEYS);
    }

    fn want(&mut self, new: Wanted) {
        self.wanted = Some(match self.wanted {
            // One wish not fulfilled yet: both at once.
            Some(old) => {
                let (a, b) = (old.area, new.area);
                let (x, y) = (a.x.min(b.x), a.y.min(b.y));
                let right = a.x.saturating_add(a.width).max(b.x.saturating_add(b.width));
                let lower = a.y.saturating_add(a.height).max(b.y.saturating_add(b.height));
                let area = Rectangle { x, y, width: right - x, height: lower - y };
                Wanted { incremental: old.incremental && new.incremental, area }
            }
            None => new,
        });
    }

    /// Puts what it waits for into its output, where there is something new.
    ///
    /// # Errors
    /// It is to be disconnected.
    pub fn show(&mut self, frame: &Frame) -> Result<(), Fault> {
        let Some(wanted) = self.wanted.filter(|_| self.output.is_empty()) else { return Ok(()) };
        let resized = self.size != (frame.width(), frame.height());
        let can_resize = self.resizes || self.resizes_extended;
        let mut rectangles = if !wanted.incremental || self.seen < frame.resized() {
            vec![if wanted.incremental || resized { frame.whole() } else { wanted.area }]
        } else {
            frame.damage(self.seen)
        };
        // A viewer that cannot follow keeps its size and sees what of the screen lies in it.
        let size = if resized && !can_resize { self.size } else { (frame.width(), frame.height()) };
        rectangles = rectangles.into_iter().filter_map(|r| clip(r, size, frame)).collect();
        let told = (resized && can_resize).then_some((SIZE_BY_SERVER, 0)).or(self.tell_size);
        let told = told.filter(|_| can_resize);
        let tell_keys = self.extended_keys && !self.keys_told;
        if rectangles.is_empty() && told.is_none() && !tell_keys {
            return Ok(());
        }
        let count = rectangles.len() + usize::from(told.is_some()) + usize::from(tell_keys);
        self.output.extend([0, 0]);
        self.output.extend((count as u16).to_be_bytes());
        if let Some((reason, outcome)) = told {
            self.put_size(frame, reason, outcome);
        }
        if tell_keys {
            self.keys_told = true;
            self.header(Rectangle { x: 0, y: 0, width: 0, height: 0 }, QEMU_EXTENDED_KEYS);
        }
        for rectangle in rectangles {
            self.put(frame, rectangle)?;
        }
        self.seen = frame.look();
        self.wanted = None;
        Ok(())
    }

    fn header(&mut self, r: Rectangle, encoding: i32) {
        for number in [r.x, r.y, r.width, r.height] {
            self.output.extend(number.to_be_bytes());
        }
        self.output.extend(encoding.to_be_bytes());
    }

    fn put_size(&mut self, frame: &Frame, reason: u16, outcome: u16) {
        self.tell_size = None;
        self.size = (frame.width(), frame.height());
        let (width, height) = self.size;
        if self.resizes_extended {
            self.header(Rectangle { x: reason, y: outcome, width, height }, EXTENDED_DESKTOP_SIZE);
            // One screen, number 0, over all of it.
            self.output.extend([1, 0, 0, 0]);
            self.output.extend([0; 8]);
            self.output.extend(width.to_be_bytes());
            self.output.extend(height.to_be_bytes());
            self.output.extend([0; 4]);
        } else {
            self.header(Rectangle { x: 0, y: 0, width, height }, DESKTOP_SIZE);
        }
    }

    fn put(&mut self, frame: &Frame, rectangle: Rectangle) -> Result<(), Fault> {
        if self.prefers_zrle {
            self.header(rectangle, ZRLE);
            let encoder = self.zrle.get_or_insert_default();
            return encoder
                .encode(frame, rectangle, &self.format, &mut self.output)
                .map_err(|_| Fault::Stream);
        }
        self.header(rectangle, RAW);
        for line in frame.lines(rectangle) {
            for pixel in line {
                self.format.push(self.format.convert(*pixel), &mut self.output);
            }
        }
        Ok(())
    }
}

/// The part of a rectangle that lies in both the viewer's and the guest's screen.
fn clip(r: Rectangle, size: (u16, u16), frame: &Frame) -> Option<Rectangle> {
    let (width, height) = (size.0.min(frame.width()), size.1.min(frame.height()));
    let width = width.checked_sub(r.x)?.min(r.width);
    let height = height.checked_sub(r.y)?.min(r.height);
    (width > 0 && height > 0).then_some(Rectangle { width, height, ..r })
}

#[cfg(test)]
#[path = "rfb_tests.rs"]
mod tests;
