//! Runs a target on what is kept, on seeds and on mutations of both.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash, Hasher},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// One input takes far less.
const HANG: Duration = Duration::from_secs(60);
/// Longest input.
const LONGEST: usize = 64 << 10;
const SECONDS: u64 = 3;
/// Numbers at which things break.
const INTERESTING: [u64; 16] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1000,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX - 4095,
    u64::MAX,
];

/// One target at a time: a panic anywhere is the running input's.
static TURN: Mutex<()> = Mutex::new(());
static PANICKED: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();
/// What runs since when.
static RUNNING: Mutex<Option<(&'static str, Instant, Vec<u8>)>> = Mutex::new(None);

fn running() -> std::sync::MutexGuard<'static, Option<(&'static str, Instant, Vec<u8>)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small generator of numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn mutate(random: &mut Random, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut input = base.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1).min(input.len());
        match random.below(8) {
            0 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] ^= 1 << random.below(8);
            }
            1 if !input.is_empty() => {
                let at = random.below(input.len());
                input[at] = random.next() as u8;
            }
            2 | 3 => {
                let value = INTERESTING[random.below(INTERESTING.len())];
                let width = [1, 2, 4, 8][random.below(4)];
                let bytes = if random.below(2) == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
                let bytes = if bytes == value.to_le_bytes() { &bytes[..width] } else { &bytes[8 - width..] };
                for (to, from) in input.iter_mut().skip(at).zip(bytes) {
                    *to = *from;
                }
            }
            4 => {
                let end = (at + random.below(16)).min(input.len());
                input.drain(at..end);
            }
            5 => {
                let bytes = random.next().to_le_bytes();
                let count = random.below(9);
                input.splice(at..at, bytes.into_iter().take(count));
            }
            6 => {
                let from = random.below(other.len() + 1).min(other.len());
                let end = (from + random.below(64)).min(other.len());
                input.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let end = (at + random.below(64)).min(input.len());
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn write_down(name: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(name);
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(format!("{:016x}", hasher.finish()));
    fs::write(&path, input).unwrap();
    path
}

fn told(name: &str, what: &str, input: &[u8]) -> String {
    let path = write_down(name, input);
    format!(
        "{name} {what}: try again with FUZZ_INPUT={} cargo test -p lq-vmm --test fuzz {name}; when it is mended, keep \
         the file in vmm/tests/fuzz/corpus/{name}",
        path.display()
    )
}

fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        if let Some((name, since, input)) = running().as_ref()
            && since.elapsed() > HANG
        {
            eprintln!("{}", told(name, "hangs", input));
            process::abort();
        }
    }
}

fn one(name: &'static str, target: fn(&[u8]), input: &[u8]) {
    *running() = Some((name, Instant::now(), input.to_vec()));
    PANICKED.store(false, SeqCst);
    let done = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    *running() = None;
    // A thread of the target may have died while the target itself went on.
    if done.is_err() || PANICKED.load(SeqCst) {
        panic!("{}", told(name, "panics", input));
    }
}

/// Runs `target` for its time.
pub fn run(name: &'static str, target: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, SeqCst);
            before(info);
        }));
        thread::spawn(watch);
    });
    if let Some(path) = env::var_os("FUZZ_INPUT") {
        return one(name, target, &fs::read(path).unwrap());
    }
    let number = |key: &str| env::var(key).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(SECONDS));
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut corpus = seeds();
    if let Ok(entries) = fs::read_dir(kept) {
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        corpus.extend(paths.into_iter().map(|path| fs::read(path).unwrap()));
    }
    corpus.iter().for_each(|input| one(name, target, input));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut runs = corpus.len();
    while Instant::now() < end {
        let (base, other) = (random.below(corpus.len()), random.below(corpus.len()));
        let input = mutate(&mut random, &corpus[base], &corpus[other]);
        one(name, target, &input);
        runs += 1;
        // Without knowing what an input reached, some are kept by chance, so that mutations add up.
        if random.below(16) == 0 && corpus.len() < 4096 {
            corpus.push(input);
        }
    }
    println!("{name}: {runs} inputs");
    drop(turn);
}
