//! Kept-broken checks: applies one patch of `chaos/mutants` at a time to a copy of the tree, and
//! asks the simulator, then the tests, whether they notice. What nobody notices is named.
//!
//! A mutant is a patch beside the code, not a switch in it: nothing of it can ship. It does not
//! know what a patch breaks. Invariant: the tree itself is never touched.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

pub const USAGE: &str = "usage: cargo xtask mutants [--only NAME] [--seeds N] [--store] [--list]
  --only NAME   this one; its name, or a part of it; may be said again
  --seeds N     seeds that each is given before the tests are asked (default 200)
  --store       those of raft/store, whose tests compile RocksDB, instead of the others
  --list        what there is
";

/// A mutant that makes the simulator or a test hang is stopped, and was caught.
const SECONDS_MAX: &str = "900";
/// What `timeout` exits with when it stopped a program.
const TIMED_OUT: i32 = 124;
/// Fewer would not be a suite.
const CAUGHT_MIN: usize = 20;
const PURE_TESTS: &str = "-p muster-model -p muster-control";

struct Mutant {
    name: String,
    /// What is wrong with it, in a sentence.
    what: String,
    /// Arguments of `cargo test` for what the simulator does not notice.
    tests: String,
    patch: PathBuf,
}

enum Fate {
    Law {
        law: String,
        seeds: u64,
    },
    Test(String),
    Survived,
    /// A patch that does not apply or compile proves nothing.
    Invalid(String),
}

struct Options {
    only: Vec<String>,
    seeds: String,
    store: bool,
    list: bool,
}

/// # Errors
/// A mutant survived or is no mutant any more, or the tree fails without any.
pub fn run(root: &Path, words: impl Iterator<Item = String>) -> Result<(), String> {
    let options = options(words)?;
    let mutants = read(root, &options)?;
    if options.list {
        mutants.iter().for_each(|m| println!("{:<28} {}", m.name, m.what));
        return Ok(());
    }
    let bench = Bench::set_up(root, &options)?;
    if !options.store {
        bench.baseline()?;
    }
    let mut fates = Vec::new();
    for (at, mutant) in mutants.iter().enumerate() {
        let began = Instant::now();
        let fate = bench.judge(mutant)?;
        let seconds = began.elapsed().as_secs();
        println!("{:>3}/{} {:<28} {fate} ({seconds} s)", at + 1, mutants.len(), mutant.name);
        fates.push(fate);
    }
    summary(&mutants, &fates, !options.only.is_empty() || options.store)
}

fn summary(mutants: &[Mutant], fates: &[Fate], some: bool) -> Result<(), String> {
    let escaped = |fate: &&Fate| matches!(fate, Fate::Survived | Fate::Invalid(_));
    let left = fates.iter().filter(escaped).count();
    let caught = fates.len() - left;
    for (mutant, fate) in mutants.iter().zip(fates).filter(|(_, fate)| escaped(fate)) {
        println!("not caught: {}: {} ({fate})", mutant.name, mutant.what);
    }
    let mut seeds: Vec<u64> = fates
        .iter()
        .filter_map(|fate| match fate {
            Fate::Law { seeds, .. } => Some(*seeds),
            _ => None,
        })
        .collect();
    seeds.sort_unstable();
    let least = if some { 1 } else { CAUGHT_MIN };
    let verdict = |ok: bool| if ok { "ok" } else { "short" };
    let ok = verdict(caught >= least);
    println!("figure mutants.caught {caught} mutants target >= {least} {ok}");
    println!("figure mutants.survived {left} mutants target <= 0 {}", verdict(left == 0));
    println!("figure mutants.caught_by_simulator {} mutants target >= 0 ok", seeds.len());
    if let Some(most) = seeds.last() {
        let median = seeds[seeds.len() / 2];
        println!(
            "figure mutants.seeds_median {median} seeds target <= 100 {}",
            verdict(median <= 100)
        );
        println!("figure mutants.seeds_max {most} seeds target <= 500 {}", verdict(*most <= 500));
    }
    match left {
        0 => Ok(()),
        n => Err(format!("{n} of {} mutants were not caught: write the test", fates.len())),
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Law { law, seeds } => write!(f, "caught by the law of {law} after {seeds} seeds"),
            Self::Test(name) => write!(f, "caught by the test {name}"),
            Self::Survived => write!(f, "SURVIVED"),
            Self::Invalid(why) => write!(f, "NO MUTANT: {why}"),
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { only: Vec::new(), seeds: "200".into(), store: false, list: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--store" => options.store = true,
            "--list" => options.list = true,
            "--only" => options.only.extend(words.next()),
            "--seeds" => options.seeds = words.next().unwrap_or_default(),
            _ => return Err(format!("{word:?} is not an option\n{USAGE}")),
        }
    }
    Ok(options)
}

fn read(root: &Path, options: &Options) -> Result<Vec<Mutant>, String> {
    let sub = if options.store { "chaos/mutants/store" } else { "chaos/mutants" };
    let dir = root.join(sub);
    let listed = fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut patches: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    patches.retain(|path| path.extension().is_some_and(|end| end == "patch"));
    patches.sort();
    let mut mutants = Vec::new();
    for patch in patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = options.only.iter().any(|part| name.contains(part));
        if !options.only.is_empty() && !wanted {
            continue;
        }
        let text = fs::read_to_string(&patch).map_err(|e| format!("{name}: {e}"))?;
        let head = || text.lines().take_while(|line| !line.starts_with("diff "));
        let tests = head().find_map(|line| line.strip_prefix("tests: ")).unwrap_or(PURE_TESTS);
        let what = head().next().unwrap_or_default().to_owned();
        mutants.push(Mutant { name, what, tests: tests.to_owned(), patch });
    }
    match mutants.is_empty() {
        true => Err(format!("no such mutant in {}; see --list", dir.display())),
        false => Ok(mutants),
    }
}

/// Where mutants are built: a copy of the tree with a target directory of its own.
struct Bench {
    tree: PathBuf,
    target: PathBuf,
    seeds: String,
    store: bool,
}

impl Bench {
    fn set_up(root: &Path, options: &Options) -> Result<Self, String> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), Into::into);
        let place = target.join("mutants");
        let tree = place.join("tree");
        let listed = output(Command::new("git").current_dir(root).args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        // What an earlier run left and is gone since must not be built.
        let _ = fs::remove_dir_all(tree.join("chaos/mutants"));
        for file in String::from_utf8_lossy(&listed.stdout).lines() {
            copy(&root.join(file), &tree.join(file))?;
        }
        let bench = Self {
            target: place.join("build"),
            tree,
            seeds: options.seeds.clone(),
            store: options.store,
        };
        Ok(bench)
    }

    /// Without a mutant everything must hold, or what follows says nothing.
    fn baseline(&self) -> Result<(), String> {
        // From nothing it compiles every dependency, which a slow machine needs long for.
        let first = Command::new("cargo");
        self.build(first).map_err(|why| format!("the tree does not build: {why}"))?;
        match self.simulate()? {
            None => Ok(()),
            Some(fate) => Err(format!("the tree fails without a mutant: {fate}")),
        }
    }

    fn judge(&self, mutant: &Mutant) -> Result<Fate, String> {
        let touched = self.files_of(mutant)?;
        let originals: Result<Vec<_>, _> = touched.iter().map(fs::read).collect();
        let originals = originals.map_err(|e| format!("{}: {e}", mutant.name))?;
        let fate = match self.apply(mutant) {
            Err(why) => Ok(Fate::Invalid(why)),
            Ok(()) => self.ask(mutant),
        };
        for (file, text) in touched.iter().zip(originals) {
            fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        fate
    }

    fn files_of(&self, mutant: &Mutant) -> Result<Vec<PathBuf>, String> {
        let text = fs::read_to_string(&mutant.patch).map_err(|e| e.to_string())?;
        let files = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        Ok(files.map(|file| self.tree.join(file)).collect())
    }

    /// Lines may have moved; one line around each change must still be there.
    fn apply(&self, mutant: &Mutant) -> Result<(), String> {
        let parent = self.tree.parent().unwrap_or(&self.tree);
        let applied = output(
            Command::new("git")
                .current_dir(&self.tree)
                .env("GIT_CEILING_DIRECTORIES", parent)
                .args(["apply", "-C1"])
                .arg(&mutant.patch),
        )?;
        match applied.status.success() {
            true => Ok(()),
            false => Err(first_line(&applied.stderr)),
        }
    }

    fn ask(&self, mutant: &Mutant) -> Result<Fate, String> {
        if !self.store {
            if let Err(why) = self.build(limited("cargo")) {
                return Ok(Fate::Invalid(why));
            }
            if let Some(fate) = self.simulate()? {
                return Ok(fate);
            }
        }
        self.test(&mutant.tests)
    }

    /// In the copy, with its own target directory.
    fn at<'a>(&self, cargo: &'a mut Command) -> &'a mut Command {
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target)
    }

    fn build(&self, mut cargo: Command) -> Result<(), String> {
        let words = ["build", "-q", "-p", "muster-chaos", "--bin", "muster-sim"];
        let built = output(self.at(&mut cargo).args(words))?;
        if built.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&built.stderr);
        let error = text.lines().find(|line| line.starts_with("error"));
        Err(match (error, built.status.code()) {
            (Some(error), _) => error.to_owned(),
            (None, Some(TIMED_OUT)) => format!("stopped after {SECONDS_MAX} s"),
            (None, _) => format!("{}: {}", built.status, first_line(&built.stderr)),
        })
    }

    /// `None`: all seeds kept every law.
    fn simulate(&self) -> Result<Option<Fate>, String> {
        let program = self.target.join("debug/muster-sim");
        let mut command = limited(program);
        command.args(["--seed", "1", "--seeds", &self.seeds, "--stop", "--quiet"]);
        let ran = output(&mut command)?;
        if ran.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&ran.stdout);
        let broken = text.lines().find_map(|line| line.trim_start().strip_prefix("seed "));
        let found = text.lines().find_map(|line| {
            let (seed, rest) = line.strip_prefix("  seed ")?.split_once(" breaks the law of ")?;
            let (law, _) = rest.split_once(':')?;
            Some(Fate::Law { law: law.to_owned(), seeds: seed.parse().ok()? })
        });
        Ok(Some(found.unwrap_or_else(|| {
            let last = broken.map_or_else(|| first_line(&ran.stderr), str::to_owned);
            Fate::Test(format!("muster-sim itself: {last}"))
        })))
    }

    fn test(&self, tests: &str) -> Result<Fate, String> {
        let words = tests.split_whitespace();
        let mut cargo = limited("cargo");
        let ran = output(self.at(&mut cargo).args(["test", "--no-fail-fast"]).args(words))?;
        if ran.status.success() {
            return Ok(Fate::Survived);
        }
        let text = String::from_utf8_lossy(&ran.stdout);
        let mut failed = text.lines().filter_map(|line| {
            let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
            Some(name.to_owned())
        });
        Ok(match failed.next() {
            Some(name) => Fate::Test(name),
            None => {
                let text = String::from_utf8_lossy(&ran.stderr);
                let error = text.lines().find(|line| line.starts_with("error"));
                Fate::Invalid(format!("the tests did not run: {}", error.unwrap_or_default()))
            }
        })
    }
}

/// A program that is stopped after [`SECONDS_MAX`].
fn limited(program: impl AsRef<OsStr>) -> Command {
    let mut timeout = Command::new("timeout");
    timeout.arg(SECONDS_MAX).arg(program);
    timeout
}

fn output(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| format!("starting {:?}: {error}", command.get_program()))
}

fn first_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().next().unwrap_or_default().to_owned()
}

/// Only what differs: unchanged files keep their time, so cargo need not compile them again.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let Ok(new) = fs::read(from) else { return Ok(()) };
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let named = |error: std::io::Error| format!("{}: {error}", to.display());
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(named)?;
    }
    fs::write(to, new).map_err(named)
}
