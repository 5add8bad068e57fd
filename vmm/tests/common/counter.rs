//! A guest that counts, and notices whatever a move could lose: each round it finds the last number in 64 pages and on the
//! disk and writes the next one, then prints it in hexadecimal. `!M`: memory was wrong, `!D`: the disk was.

use super::Setup;
use std::fs::File;

std::arch::global_asm!(
    ".pushsection .rodata.counter, \"a\"",
    ".code64",
    ".global counter_start",
    "counter_start:",
    "mov esp, 0x90000",
    // Bring up the virtio-blk device in slot 1: features VERSION_1 and FLUSH, one queue of 8.
    "mov ebx, 0xc0000000",
    "mov byte ptr [rbx + 0x14], 0",
    "mov byte ptr [rbx + 0x14], 1",
    "mov byte ptr [rbx + 0x14], 3",
    "mov dword ptr [rbx + 8], 1",
    "mov dword ptr [rbx + 0xc], 1",
    "mov dword ptr [rbx + 8], 0",
    "mov dword ptr [rbx + 0xc], 0x200",
    "mov byte ptr [rbx + 0x14], 11",
    "mov word ptr [rbx + 0x16], 0",
    "mov word ptr [rbx + 0x18], 8",
    "mov dword ptr [rbx + 0x20], 0x800000",
    "mov dword ptr [rbx + 0x28], 0x801000",
    "mov dword ptr [rbx + 0x30], 0x802000",
    "mov word ptr [rbx + 0x1c], 1",
    "mov byte ptr [rbx + 0x14], 15",
    // Descriptors: header, data, status.
    "mov ebp, 0x800000",
    "mov qword ptr [rbp], 0x803000",
    "mov dword ptr [rbp + 8], 16",
    "mov dword ptr [rbp + 12], 0x00010001",
    "mov dword ptr [rbp + 24], 512",
    "mov qword ptr [rbp + 32], 0x806000",
    "mov dword ptr [rbp + 40], 1",
    "mov dword ptr [rbp + 44], 2",
    "xor r12d, r12d",
    // A round: memory,
    "10: mov edi, 0x1000000",
    "mov ecx, 64",
    "11: cmp [rdi], r12",
    "jne 20f",
    "lea rax, [r12 + 1]",
    "mov [rdi], rax",
    "add rdi, 4096",
    "dec ecx",
    "jnz 11b",
    "inc r12",
    // the disk: write the number to a sector, read it back,
    "mov [rbp + 0x4000], r12",
    "mov eax, 1",
    "mov edx, 0x804000",
    "mov r8d, 0x20001",
    "call 40f",
    "mov qword ptr [rbp + 0x5000], 0",
    "xor eax, eax",
    "mov edx, 0x805000",
    "mov r8d, 0x20003",
    "call 40f",
    "cmp [rbp + 0x5000], r12",
    "jne 21f",
    // the console.
    "mov dx, 0x3f8",
    "mov ecx, 8",
    "mov r8, r12",
    "shl r8, 32",
    "12: rol r8, 4",
    "mov eax, r8d",
    "and eax, 15",
    "add eax, 0x30",
    "cmp eax, 0x3a",
    "jb 13f",
    "add eax, 0x27",
    "13: out dx, al",
    "dec ecx",
    "jnz 12b",
    "mov al, 10",
    "out dx, al",
    "jmp 10b",
    // Faults.
    "20: mov bl, 0x4d",
    "jmp 22f",
    "21: mov bl, 0x44",
    "22: mov dx, 0x3f8",
    "mov al, 0x21",
    "out dx, al",
    "mov al, bl",
    "out dx, al",
    "mov al, 10",
    "out dx, al",
    "23: hlt",
    "jmp 23b",
    // A request of type EAX with the data at EDX and the flags of its descriptor in R8D.
    "40: mov [rbp + 0x3000], eax",
    "mov dword ptr [rbp + 0x3004], 0",
    "mov ecx, r12d",
    "and ecx, 63",
    "mov [rbp + 0x3008], rcx",
    "mov [rbp + 16], rdx",
    "mov [rbp + 28], r8d",
    "mov byte ptr [rbp + 0x6000], 0xff",
    "movzx ecx, word ptr [rbp + 0x1002]",
    "mov eax, ecx",
    "and eax, 7",
    "mov word ptr [rbp + rax * 2 + 0x1004], 0",
    "inc ecx",
    "mov [rbp + 0x1002], cx",
    "mov word ptr [rbx + 0x3000], 0",
    "41: cmp [rbp + 0x2002], cx",
    "jne 41b",
    "cmp byte ptr [rbp + 0x6000], 0",
    "jne 21b",
    "ret",
    ".global counter_end",
    "counter_end:",
    ".popsection",
);

unsafe extern "C" {
    static counter_start: u8;
    static counter_end: u8;
}

/// A machine with the guest and its disk.
pub fn setup() -> Setup {
    // SAFETY: both symbols are of the block above, in this order, in one section of constants.
    let code = unsafe {
        let length = (&raw const counter_end).offset_from_unsigned(&raw const counter_start);
        std::slice::from_raw_parts(&raw const counter_start, length)
    };
    let mut setup = Setup::new(code);
    let disk = setup.directory.path().join("disk.raw");
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    setup.disks = format!(r#"{{"serial":"counter","image":{{"path":"{}","format":"raw"}}}}"#, disk.display());
    setup
}

/// Checks that `output`, of one guest wherever it ran, counts from 1 without a repetition, a gap or a fault. Returns the last
/// number.
pub fn check(output: &[u8]) -> u32 {
    let text = str::from_utf8(output).unwrap();
    let mut last = 0;
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let number = u32::from_str_radix(line.trim_end(), 16);
        assert_eq!(number, Ok(last + 1), "after {last} came {line:?}");
        last += 1;
    }
    last
}
