//! Everything a guest, an image, a viewer or a peer can say, said at random: nothing may panic or hang.
//!
//! Each target is a function of bytes in [`targets`]. Here each gets what is kept in `tests/fuzz/corpus/<name>`, its seeds, and then
//! mutations of them, always the same ones, for a few seconds (`FUZZ_SECONDS`; `just fuzz` gives more; `FUZZ_SEED` chooses other
//! mutations). An input that makes one fail is written down, and how to try it again is said. A mended one is put into the
//! corpus. The functions fit libFuzzer as they are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]
#![allow(unreachable_pub, reason = "the targets are for others as well")]

mod engine;
mod reader;
mod targets;

macro_rules! fuzz {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            engine::run(stringify!($name), targets::$name, targets::seeds::$name);
        }
    )*};
}

fuzz!(
    registers,
    queues_blk,
    queues_blk_several,
    queues_scsi,
    queues_balloon,
    queues_rng,
    queues_input,
    queues_net,
    queues_net_several,
    queues_vsock,
    queues_mem,
    back_end,
    passthrough,
    tpm,
    fw_cfg,
    keyboard,
    qcow2,
    rfb,
    control,
    stream,
);
