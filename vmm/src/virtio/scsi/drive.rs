//! A CD drive: what it answers to SCSI commands. No I/O: commands in, replies out (SPC-4, MMC-6).
//!
//! ```text
//!           insert                       eject (guest), eject (host, unless locked)
//!  Empty ───────────▶ Loaded ────────────────────────────────────────────────────────▶ Empty
//! ```
//! Every change of the medium leaves a unit attention for the next command, and an event for the next that asks for events.
//! A guest that has locked the medium is asked to give it up; only force takes it.
//!
//! Invariants: any command is answered; a reply is no longer than was asked for; a read lies on the medium.

use serde::{Deserialize, Serialize};

/// Bytes of a block.
pub(super) const BLOCK: u64 = 2048;

/// Why a command fails: sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sense {
    key: u8,
    code: u8,
    qualifier: u8,
}

impl Sense {
    const fn new(key: u8, code: u8, qualifier: u8) -> Self {
        Self { key, code, qualifier }
    }
    const NONE: Self = Self::new(0, 0, 0);
    const NO_MEDIUM: Self = Self::new(2, 0x3a, 0);
    /// The host could not read the medium.
    pub(super) const READ_ERROR: Self = Self::new(3, 0x11, 0);
    const UNKNOWN_COMMAND: Self = Self::new(5, 0x20, 0);
    const OUT_OF_RANGE: Self = Self::new(5, 0x21, 0);
    const INVALID_FIELD: Self = Self::new(5, 0x24, 0);
    /// There is only unit 0.
    pub(super) const NO_UNIT: Self = Self::new(5, 0x25, 0);
    const LOCKED: Self = Self::new(5, 0x53, 2);
    const CHANGED: Self = Self::new(6, 0x28, 0);
    const POWER_ON: Self = Self::new(6, 0x29, 0);

    /// In the fixed format.
    pub(super) fn bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[0] = 0x70;
        bytes[2] = self.key;
        bytes[7] = 10;
        bytes[12] = self.code;
        bytes[13] = self.qualifier;
        bytes
    }
}

/// What a command is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// These bytes, perhaps none.
    Data(Vec<u8>),
    /// So many bytes of the medium, from there.
    Read { offset: u64, length: u64 },
    /// As `Data` with none; and the medium is out now.
    Ejected,
    /// It fails.
    Check(Sense),
}

/// What the next who asks for events is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MediumEvent {
    #[default]
    None = 0,
    EjectWanted = 1,
    New = 2,
    Removed = 3,
}

/// The drive, without its medium. This is what is saved of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drive {
    /// By which the guest tells drives apart.
    number: u8,
    /// Blocks of the medium.
    blocks: Option<u32>,
    locked: bool,
    attention: Option<Sense>,
    event: MediumEvent,
}

impl Drive {
    /// After power-on, with a medium of so many bytes.
    pub(super) fn new(number: u8, medium: Option<u64>) -> Self {
        let blocks = medium.map(blocks);
        Self { number, blocks, locked: false, attention: Some(Sense::POWER_ON), event: MediumEvent::None }
    }

    /// There is a medium.
    pub(super) fn is_loaded(&self) -> bool {
        self.blocks.is_some()
    }

    /// What is in both looks the same.
    pub(super) fn same_medium(&self, other: &Self) -> bool {
        self.blocks == other.blocks
    }

    /// A medium of `bytes` comes in.
    pub(super) fn insert(&mut self, bytes: u64) {
        self.blocks = Some(blocks(bytes));
        self.attention = Some(Sense::CHANGED);
        self.event = MediumEvent::New;
    }

    /// The host wants it out. False: the guest has locked it, and is asked.
    pub(super) fn eject(&mut self, force: bool) -> bool {
        if self.locked && self.blocks.is_some() && !force {
            self.event = MediumEvent::EjectWanted;
            return false;
        }
        self.remove();
        true
    }

    fn remove(&mut self) {
        if self.blocks.take().is_some() {
            self.attention = Some(Sense::CHANGED);
            self.event = MediumEvent::Removed;
        }
        self.locked = false;
    }

    /// The unit, the target or the bus is reset.
    pub(super) fn reset(&mut self) {
        self.locked = false;
        self.attention = Some(Sense::POWER_ON);
    }

    /// Carries out the command in `cdb`.
    pub(super) fn command(&mut self, cdb: &[u8; 32]) -> Reply {
        let operation = cdb[0];
        // Who asks what there is, or what has happened, is not told of it in this way.
        if !matches!(operation, 0x03 | 0x12 | 0x4a | 0xa0)
            && let Some(sense) = self.attention.take()
        {
            return Reply::Check(sense);
        }
        let be16 = |at: usize| usize::from(u16::from_be_bytes([cdb[at], cdb[at + 1]]));
        let be32 = |at: usize| u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]]);
        let result = match operation {
            0x00 => self.medium().map(|_| Vec::new()),
            0x03 => {
                let sense = self.attention.take().unwrap_or(Sense::NONE);
                Ok(cut(sense.bytes().to_vec(), cdb[4].into()))
            }
            0x12 => inquiry(cdb, self.number).map(|data| cut(data, be16(3))),
            0x1a => mode_sense(cdb, 4).map(|data| cut(data, cdb[4].into())),
            0x5a => mode_sense(cdb, 8).map(|data| cut(data, be16(7))),
            0x1b => return self.start_stop(cdb[4]),
            0x1e => {
                self.locked = cdb[4] & 1 != 0;
                Ok(Vec::new())
            }
            // Seek, synchronize cache.
            0x2b | 0x35 => self.medium().map(|_| Vec::new()),
            0x25 => self.medium().map(|blocks| {
                [&(blocks.saturating_sub(1)).to_be_bytes()[..], &(BLOCK as u32).to_be_bytes()].concat()
            }),
            0x9e if cdb[1] & 0x1f == 0x10 => self.medium().map(|blocks| {
                let last = u64::from(blocks.saturating_sub(1));
                let data = [&last.to_be_bytes()[..], &(BLOCK as u32).to_be_bytes(), &[0; 20]].concat();
                cut(data, be32(10) as usize)
            }),
            0x08 => {
                let count = if cdb[4] == 0 { 256 } else { cdb[4].into() };
                return self.read(be32(0) & 0x1f_ffff, count);
            }
            0x28 => return self.read(be32(2), be16(7) as u32),
            0xa8 => return self.read(be32(2), be32(6)),
            0x43 => self.table_of_contents(cdb).map(|data| cut(data, be16(7))),
            0x46 => Ok(cut(self.configuration(cdb), be16(7))),
            0x4a => self.events(cdb).map(|data| cut(data, be16(7))),
            0x51 => self.medium().map(|_| cut(disc_information(), be16(7))),
            // Mechanism status.
            0xbd => Ok(cut(vec![0, 0, 0, 0, 0, 1, 0, 0], be16(8))),
            0xa0 => Ok(cut([&8_u32.to_be_bytes()[..], &[0; 12]].concat(), be32(6) as usize)),
            _ => Err(Sense::UNKNOWN_COMMAND),
        };
        result.map_or_else(Reply::Check, Reply::Data)
    }

    fn medium(&self) -> Result<u32, Sense> {
        self.blocks.ok_or(Sense::NO_MEDIUM)
    }

    fn read(&self, block: u32, count: u32) -> Reply {
        match self.medium() {
            Err(sense) => Reply::Check(sense),
            Ok(blocks) if u64::from(block) + u64::from(count) > u64::from(blocks) => {
                Reply::Check(Sense::OUT_OF_RANGE)
            }
            Ok(_) => Reply::Read { offset: u64::from(block) * BLOCK, length: u64::from(count) * BLOCK },
        }
    }

    /// Start and stop do nothing; load without a medium at hand neither.
    fn start_stop(&mut self, what: u8) -> Reply {
        const START: u8 = 1;
        const LOAD_EJECT: u8 = 2;
        match what & (START | LOAD_EJECT) {
            LOAD_EJECT if self.locked => Reply::Check(Sense::LOCKED),
            LOAD_EJECT => {
                let loaded = self.is_loaded();
                self.remove();
                // It knows: it did it.
                self.attention = None;
                if loaded { Reply::Ejected } else { Reply::Data(Vec::new()) }
            }
            _ => Reply::Data(Vec::new()),
        }
    }

    /// One data track in one session.
    fn table_of_contents(&self, cdb: &[u8; 32]) -> Result<Vec<u8>, Sense> {
        const LEAD_OUT: u8 = 0xaa;
        let blocks = self.medium()?;
        let address = |block: u32| {
            if cdb[1] & 2 == 0 {
                return block.to_be_bytes();
            }
            // Minutes, seconds and frames, with the two seconds that come before.
            let frames = block.saturating_add(150);
            [0, (frames / 4500).min(255) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
        };
        let entry = |track: u8, block: u32| [&[0, 0x14, track, 0][..], &address(block)].concat();
        let first = entry(1, 0);
        // In newer commands the format is in byte 2, in older ones in the highest bits of byte 9.
        let format = if cdb[2] & 0xf == 0 { cdb[9] >> 6 } else { cdb[2] & 0xf };
        let entries = match format {
            0 if cdb[6] > 1 && cdb[6] != LEAD_OUT => return Err(Sense::INVALID_FIELD),
            0 if cdb[6] == LEAD_OUT => entry(LEAD_OUT, blocks),
            0 => [first, entry(LEAD_OUT, blocks)].concat(),
            1 => first,
            _ => return Err(Sense::INVALID_FIELD),
        };
        let length = (entries.len() as u16 + 2).to_be_bytes();
        Ok([&length[..], &[1, 1], &entries].concat())
    }

    /// Profile CD-ROM or none; core, morphing and removable medium features (MMC-6, 5.3).
    fn configuration(&self, cdb: &[u8; 32]) -> Vec<u8> {
        let from = u16::from_be_bytes([cdb[2], cdb[3]]);
        let kind = cdb[1] & 3;
        let current = u8::from(self.is_loaded());
        let features: [(u16, Vec<u8>); 4] = [
            (0, vec![0, 0, 3, 4, 0, 8, current, 0]),
            (1, vec![0, 1, 0x0b, 8, 0, 0, 0, 1, 1, 0, 0, 0]),
            (2, vec![0, 2, 7, 4, 0, 0, 0, 0]),
            // Tray, can be ejected and locked.
            (3, vec![0, 3, 3, 4, 0x29, 0, 0, 0]),
        ];
        let wanted = |number: u16| if kind == 2 { number == from } else { number >= from };
        let body: Vec<u8> =
            features.into_iter().filter(|feature| wanted(feature.0)).flat_map(|feature| feature.1).collect();
        let profile: u16 = if self.is_loaded() { 8 } else { 0 };
        [&(body.len() as u32 + 4).to_be_bytes()[..], &[0, 0], &profile.to_be_bytes(), &body].concat()
    }

    fn events(&mut self, cdb: &[u8; 32]) -> Result<Vec<u8>, Sense> {
        const POLLED: u8 = 1;
        const MEDIA: u8 = 1 << 4;
        if cdb[1] & POLLED == 0 {
            return Err(Sense::INVALID_FIELD);
        }
        if cdb[4] & MEDIA == 0 {
            return Ok(vec![0, 2, 0x80, MEDIA]);
        }
        let event = std::mem::take(&mut self.event) as u8;
        let status = if self.is_loaded() { 2 } else { 0 };
        Ok(vec![0, 6, 4, MEDIA, event, status, 0, 0])
    }
}

fn blocks(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX)
}

fn cut(mut data: Vec<u8>, most: usize) -> Vec<u8> {
    data.truncate(most);
    data
}

fn inquiry(cdb: &[u8; 32], number: u8) -> Result<Vec<u8>, Sense> {
    const KIND: u8 = 5;
    let page = |number: u8, body: &[u8]| [&[KIND, number, 0, body.len() as u8][..], body].concat();
    match (cdb[1] & 1, cdb[2]) {
        (0, 0) => {
            // Removable, SPC-3, 31 more bytes.
            let mut data = vec![KIND, 0x80, 5, 2, 31, 0, 0, 0];
            data.extend(b"LIMIQTX Virtual CD      1.0 ");
            Ok(data)
        }
        (1, 0) => Ok(page(0, &[0, 0x80, 0x83])),
        (1, 0x80) => Ok(page(0x80, format!("lq-cd{number}").as_bytes())),
        // Text, by the vendor, of the unit.
        (1, 0x83) => {
            let name = format!("LIMIQTX lq-cd{number}");
            Ok(page(0x83, &[&[2, 1, 0, name.len() as u8][..], name.as_bytes()].concat()))
        }
        _ => Err(Sense::INVALID_FIELD),
    }
}

/// The capabilities page and the error recovery page, behind a header of `header` bytes.
fn mode_sense(cdb: &[u8; 32], header: usize) -> Result<Vec<u8>, Sense> {
    const RECOVERY: [u8; 8] = [1, 6, 0, 5, 0, 0, 0, 0];
    // Reads CD-R and CD-RW; the tray locks and ejects.
    const CAPABILITIES: [u8; 22] =
        [0x2a, 20, 3, 0, 0x70, 0, 0x29, 0, 0x10, 0x8a, 0, 2, 2, 0, 0x10, 0x8a, 0, 0, 0, 0, 0, 0];
    let mut pages: Vec<u8> = Vec::new();
    let all = cdb[2] & 0x3f == 0x3f;
    // Saved values there are none.
    if cdb[2] >> 6 == 3 {
        return Err(Sense::new(5, 0x39, 0));
    }
    for page in [&RECOVERY[..], &CAPABILITIES] {
        if all || page.first() == Some(&(cdb[2] & 0x3f)) {
            pages.extend(page);
        }
    }
    if pages.is_empty() {
        return Err(Sense::INVALID_FIELD);
    }
    let mut data = vec![0; header];
    if header == 4 {
        data[0] = (pages.len() + header - 1) as u8;
        data[1] = 1;
    } else {
        data[1] = (pages.len() + header - 2) as u8;
        data[2] = 1;
    }
    data.extend(pages);
    Ok(data)
}

fn disc_information() -> Vec<u8> {
    let mut data = vec![0; 34];
    data[1] = 32;
    // Complete, its last session too; one session, one track.
    data[2] = 0x0e;
    data[3..7].copy_from_slice(&[1, 1, 1, 1]);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cdb(bytes: &[u8]) -> [u8; 32] {
        let mut cdb = [0; 32];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    fn data(drive: &mut Drive, bytes: &[u8]) -> Vec<u8> {
        match drive.command(&cdb(bytes)) {
            Reply::Data(data) => data,
            other => panic!("{bytes:x?} is answered with {other:?}"),
        }
    }

    fn fails(drive: &mut Drive, bytes: &[u8]) -> Sense {
        match drive.command(&cdb(bytes)) {
            Reply::Check(sense) => sense,
            other => panic!("{bytes:x?} is answered with {other:?}"),
        }
    }

    #[test]
    fn a_driver_finds_the_drive_and_its_medium() {
        let mut drive = Drive::new(0, Some(700 * BLOCK - 1));
        let answer = data(&mut drive, &[0x12, 0, 0, 0, 36]);
        assert_eq!((answer.len(), answer[0], answer[1] & 0x80), (36, 5, 0x80));
        assert_eq!(fails(&mut drive, &[0]), Sense::POWER_ON, "told once");
        assert!(data(&mut drive, &[0]).is_empty());
        assert_eq!(data(&mut drive, &[0x25]), [0, 0, 2, 187, 0, 0, 8, 0]);
        assert_eq!(
            data(&mut drive, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32])[..8],
            699_u64.to_be_bytes()
        );
        assert_eq!(
            data(&mut drive, &[0x43, 0, 0, 0, 0, 0, 0, 0, 20]),
            [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 2, 188]
        );
        // 700 blocks and 2 seconds are 11 seconds and 25 frames.
        assert_eq!(data(&mut drive, &[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 20])[8..], [0, 0, 11, 25]);
        assert_eq!(data(&mut drive, &[0x1a, 0, 0x2a, 0, 128])[..6], [25, 1, 0, 0, 0x2a, 20]);
        assert_eq!(data(&mut drive, &[0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0]).len(), 8 + 8 + 22);
        assert_eq!(data(&mut drive, &[0x46, 0, 0, 0, 0, 0, 0, 1, 0])[6..8], [0, 8]);
        assert_eq!(
            data(&mut drive, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16]),
            [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            drive.command(&cdb(&[0x28, 0, 0, 0, 2, 0, 0, 0, 3])),
            Reply::Read { offset: 512 * BLOCK, length: 3 * BLOCK }
        );
        assert_eq!(fails(&mut drive, &[0x28, 0, 0, 0, 2, 187, 0, 0, 2]), Sense::OUT_OF_RANGE);
        assert_eq!(
            fails(&mut drive, &[0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Sense::OUT_OF_RANGE
        );
        assert_eq!(fails(&mut drive, &[0x2a]), Sense::UNKNOWN_COMMAND, "nothing is written");
    }

    #[test]
    fn media_come_and_go_and_the_driver_learns_of_it() {
        let mut drive = Drive::new(0, None);
        let poll = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8];
        assert_eq!(data(&mut drive, &poll), [0, 6, 4, 16, 0, 0, 0, 0]);
        fails(&mut drive, &[0]);
        assert_eq!(fails(&mut drive, &[0]), Sense::NO_MEDIUM);
        drive.insert(10 * BLOCK);
        assert_eq!(data(&mut drive, &poll)[4..6], [2, 2]);
        assert_eq!(fails(&mut drive, &[0]), Sense::CHANGED);
        assert!(data(&mut drive, &[0]).is_empty());
        // Locked: the host asks, the guest decides.
        data(&mut drive, &[0x1e, 0, 0, 0, 1]);
        assert!(!drive.eject(false));
        assert_eq!(data(&mut drive, &poll)[4..6], [1, 2]);
        assert_eq!(fails(&mut drive, &[0x1b, 0, 0, 0, 2]), Sense::LOCKED);
        data(&mut drive, &[0x1e, 0, 0, 0, 0]);
        assert_eq!(drive.command(&cdb(&[0x1b, 0, 0, 0, 2])), Reply::Ejected);
        assert!(!drive.is_loaded());
        assert_eq!(fails(&mut drive, &[0x25]), Sense::NO_MEDIUM);
        drive.insert(BLOCK);
        drive.command(&cdb(&[0]));
        data(&mut drive, &[0x1e, 0, 0, 0, 1]);
        assert!(drive.eject(true));
        assert_eq!(data(&mut drive, &poll)[4..6], [3, 0]);
    }

    proptest! {
        #[test]
        fn any_command_is_answered_and_reads_lie_on_the_medium(
            blocks in prop::option::of(0_u64..5000),
            commands in prop::collection::vec((prop_oneof![
                any::<u8>(), Just(0x28), Just(0xa8), Just(0x43), Just(0x4a), Just(0x1b), Just(0x1e)
            ], prop::collection::vec(any::<u8>(), 31)), 1..40),
        ) {
            let mut drive = Drive::new(0, blocks.map(|blocks| blocks * BLOCK));
            for (operation, rest) in commands {
                let mut bytes = [0; 32];
                bytes[0] = operation;
                bytes[1..].copy_from_slice(&rest);
                let loaded = drive.is_loaded();
                match drive.command(&bytes) {
                    Reply::Data(data) => prop_assert!(data.len() <= 255),
                    Reply::Read { offset, length } => {
                        prop_assert!(loaded && offset + length <= blocks.unwrap_or(0) * BLOCK);
                    }
                    Reply::Ejected => prop_assert!(loaded && !drive.is_loaded()),
                    Reply::Check(_) => {}
                }
            }
        }
    }
}
