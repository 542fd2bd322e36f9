//! One fuzz target: libFuzzer when `cargo xtask fuzz` compiled it so, and in every `cargo test` the
//! committed corpus and, for a second or two, inputs made from it.
//!
//! It does not know what a target parses; a target fails by panicking, hanging or eating memory.
//! Invariant: an input that made a target fail is a file before anything else is said about it.

mod mutate;

use mutate::Dice;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs};

/// The one input to look at, instead of all others.
pub const FILE: &str = "MUSTER_FUZZ_FILE";
/// Seed of the inputs that `cargo test` makes.
pub const SEED: &str = "MUSTER_FUZZ_SEED";

/// What `cargo test` spends on one target besides its corpus: whichever is reached first.
const INPUTS_MAX: u32 = 5_000;
const TIME_MAX: Duration = Duration::from_secs(1);

/// Runs a target. `seeds` are valid inputs, written into the corpus by `UPDATE=1`.
///
/// # Panics
/// When `check` does, after the input was saved; and when a corpus cannot be read or is empty.
pub fn target(name: &str, seeds: fn() -> Vec<Vec<u8>>, check: fn(&[u8])) {
    #[cfg(fuzzing_libfuzzer)]
    if env::var_os("BOLERO_LIBFUZZER_ARGS").is_some() {
        return bolero::check!().for_each(move |input: &[u8]| check(input));
    }
    briefly(name, seeds, check);
}

fn briefly(name: &str, seeds: fn() -> Vec<Vec<u8>>, check: fn(&[u8])) {
    if let Some(file) = env::var_os(FILE) {
        let path = Path::new(&file);
        check(&read(path));
        println!("{}: {} is survived", name, path.display());
        return;
    }
    let folder = here().join("corpus").join(name);
    if env::var_os("UPDATE").is_some() {
        record(&folder, &seeds());
    }
    let corpus = corpus(&folder);
    assert!(!corpus.is_empty(), "{} is empty; UPDATE=1 fills it", folder.display());
    corpus.iter().for_each(|input| guarded(name, input, check));
    let seed = seed();
    println!("{name}: inputs made from seed {seed}; {SEED}={seed} makes the same");
    let mut dice = Dice::new(seed);
    let began = Instant::now();
    for _ in 0..INPUTS_MAX {
        if began.elapsed() > TIME_MAX {
            break;
        }
        guarded(name, &dice.input(&corpus), check);
    }
}

/// Keeps the input if `check` panics.
fn guarded(name: &str, input: &[u8], check: fn(&[u8])) {
    let Err(why) = catch_unwind(AssertUnwindSafe(|| check(input))) else { return };
    let mut hash = DefaultHasher::new();
    input.hash(&mut hash);
    let folder = here().join("crashes").join(name);
    let file = folder.join(format!("{:016x}", hash.finish()));
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input));
    match kept {
        Ok(()) => eprintln!("replay: cargo xtask fuzz --target {name} --replay {}", file.display()),
        Err(error) => {
            eprintln!("{} cannot be written: {error}; input: {input:02x?}", file.display())
        }
    }
    resume_unwind(why);
}

/// This crate's folder: corpora of other crates' targets lie here too.
fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn seed() -> u64 {
    if let Some(given) = env::var(SEED).ok().and_then(|text| text.parse().ok()) {
        return given;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
}

/// In the order of names, so that a seed means the same inputs everywhere.
fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("reading {}: {error}", file.display()))
}

/// Replaces the seeds; what was found by fuzzing has other names and stays.
fn record(folder: &Path, seeds: &[Vec<u8>]) {
    let told = |error: std::io::Error| panic!("recording {}: {error}", folder.display());
    fs::create_dir_all(folder).unwrap_or_else(told);
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap_or_else(told);
    }
}
