//! The control queue (virtio 1.2, 5.1.6.5): how many queue pairs the driver uses. It exists where there are several.

use super::pairs::Pairs;
use crate::{
    memory::Memory,
    virtio::{
        chain::{Chain, Malformed},
        served::Answer,
    },
};
use std::io;

const CLASS_MQ: u8 = 4;
const MQ_PAIRS_SET: u8 = 0;
const OK: u8 = 0;
const ERROR: u8 = 1;

/// Carries out the command in `chain` and writes its acknowledgement. What is not known or makes no sense is acknowledged with
/// an error, and changes nothing. `failed` is told what the host refused.
pub(super) fn command(
    pairs: &Pairs,
    memory: &Memory,
    chain: &Chain,
    failed: impl FnOnce(io::Error),
) -> Result<Answer, Malformed> {
    let mut header = [0; 2];
    chain.readable.copy_out(memory, 0, &mut header)?;
    if chain.writable.bytes() == 0 {
        return Err(Malformed::TooShort);
    }
    let mut count = [0; 2];
    let done = header == [CLASS_MQ, MQ_PAIRS_SET]
        && chain.readable.copy_out(memory, 2, &mut count).is_ok()
        && match pairs.activate(u16::from_le_bytes(count)) {
            Ok(known) => known,
            Err(error) => {
                failed(error);
                false
            }
        };
    chain.writable.copy_in(memory, 0, &[if done { OK } else { ERROR }])?;
    Ok(Answer::Written(1))
}
