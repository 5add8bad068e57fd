//! The ELF kernel inside a bzImage (Linux `Documentation/x86/boot.rst`, `payload_offset`), packed as Debian packs it: LZ4 in its
//! old framing, of blocks that hold 8 MiB each.

use anyhow::{Context as _, Result, ensure};

const BLOCK: usize = 8 << 20;
const OLD_LZ4: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// Unpacks it.
pub(crate) fn vmlinux(image: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| -> Result<usize> {
        let bytes = image.get(at..at + 4).context("the kernel's header breaks off")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    let setup = 512 * (usize::from(*image.get(0x1f1).context("there is no kernel header")?) + 1);
    let (offset, length) = (word(0x248)?, word(0x24c)?);
    let begin = setup + offset;
    let payload = image.get(begin..begin + length).context("the kernel's payload breaks off")?;
    let mut rest = payload.strip_prefix(&OLD_LZ4).context("the kernel is not packed with LZ4")?;
    // Its size unpacked is its last word.
    let size = word(begin + length - 4)?;
    let mut kernel = Vec::with_capacity(size);
    while kernel.len() < size {
        let (length, after) = rest.split_at_checked(4).context("a block is missing")?;
        let length = u32::from_le_bytes(length.try_into()?) as usize;
        let (block, after) = after.split_at_checked(length).context("a block breaks off")?;
        let room = BLOCK.min(size - kernel.len());
        kernel.extend(lz4_flex::block::decompress(block, room).context("a block does not unpack")?);
        rest = after;
    }
    ensure!(kernel.starts_with(b"\x7fELF"), "what is in the kernel is no ELF file");
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_kernel_comes_out_as_it_was() {
        let kernel: Vec<u8> =
            b"\x7fELF".iter().copied().chain((0..BLOCK as u32 + 5).map(|n| (n / 7) as u8)).collect();
        let mut payload = OLD_LZ4.to_vec();
        for block in kernel.chunks(BLOCK) {
            let packed = lz4_flex::block::compress(block);
            payload.extend((packed.len() as u32).to_le_bytes());
            payload.extend(packed);
        }
        payload.extend((kernel.len() as u32).to_le_bytes());
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        assert!(vmlinux(&image).unwrap() == kernel);
        assert!(vmlinux(&image[..2000]).is_err());
    }
}
