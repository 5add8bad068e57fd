//! A part of a file or disk, read and written as if it were a file of its own: nothing outside of it can be touched.

use std::{
    fs::File,
    io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
};

/// `length` bytes of a file from `offset`.
#[derive(Debug)]
pub struct Window<'a> {
    file: &'a File,
    offset: u64,
    length: u64,
    position: u64,
}

impl<'a> Window<'a> {
    /// A window at its start.
    pub const fn new(file: &'a File, offset: u64, length: u64) -> Self {
        Self { file, offset, length, position: 0 }
    }

    fn room(&self, wanted: usize) -> usize {
        usize::try_from(self.length.saturating_sub(self.position)).map_or(wanted, |left| left.min(wanted))
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = self.room(buffer.len());
        let count =
            self.file.read_at(buffer.get_mut(..room).unwrap_or_default(), self.offset + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        let room = self.room(buffer.len());
        let count =
            self.file.write_at(buffer.get(..room).unwrap_or_default(), self.offset + self.position)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let position = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::Current(n) => self.position.checked_add_signed(n),
            SeekFrom::End(n) => self.length.checked_add_signed(n),
        };
        self.position = position.ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_touched() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 30], 0).unwrap();
        let mut window = Window::new(&file, 10, 10);
        window.seek(SeekFrom::End(-2)).unwrap();
        assert_eq!(window.write(&[9; 5]).unwrap(), 2);
        assert_eq!(window.write(&[9; 5]).unwrap(), 0);
        window.seek(SeekFrom::Start(0)).unwrap();
        let mut bytes = Vec::new();
        window.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [1, 1, 1, 1, 1, 1, 1, 1, 9, 9]);
        let mut rest = [0; 10];
        file.read_exact_at(&mut rest, 20).unwrap();
        assert_eq!(rest, [1; 10]);
        assert!(window.seek(SeekFrom::End(-11)).is_err());
    }
}
