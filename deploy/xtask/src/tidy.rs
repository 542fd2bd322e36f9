//! The rules of docs/STYLE.md that a program can check, and the arrows of docs/ARCHITECTURE.md.
//!
//! It reads the files git tracks or would track. It does not judge what clippy already does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file over this is split along an idea (docs/STYLE.md).
const FILE_LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 100;

/// What each crate may name in its manifest besides its dev-dependencies: docs/ARCHITECTURE.md.
/// `*` = any crate that is not ours.
const ARROWS: &[(&str, &[&str])] = &[
    // regex-lite: docs/decisions/0011.
    ("raft/model", &["serde", "thiserror", "imbl", "ciborium", "regex-lite"]),
    ("node/control", &["muster-model", "muster-calendar"]),
    // jiff: docs/decisions/0018.
    ("node/calendar", &["muster-model", "jiff"]),
    ("node/shim", &["nix", "rustix", "libc"]),
    ("proto", &["muster-model", "*"]),
    ("raft/replica", &["muster-model", "tokio"]),
    ("raft/store", &["muster-model", "muster-proto", "muster-replica", "muster-identity", "*"]),
    ("node/identity", &["muster-model", "*"]),
    (
        "node/manager",
        &[
            "muster-model",
            "muster-control",
            "muster-proto",
            "muster-replica",
            "muster-identity",
            "muster-api",
            "*",
        ],
    ),
    (
        "node/api",
        &[
            "muster-model",
            "muster-calendar",
            "muster-proto",
            "muster-replica",
            "muster-identity",
            "*",
        ],
    ),
    (
        "node/agent",
        &[
            "muster-model",
            "muster-control",
            "muster-proto",
            "muster-identity",
            "muster-process",
            "*",
        ],
    ),
    ("node/process", &["muster-model", "*"]),
];

/// Words that must not stand in Rust code, where, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("todo!(", "finish it, or leave it out and say so in the issue's note"),
    ("unimplemented!(", "finish it, or leave it out and say so in the issue's note"),
    ("#[ignore", "a test runs or does not exist"),
    ("dbg!(", "use tracing"),
];

/// Checks every rule and names every breach.
///
/// # Errors
/// The number of breaches, after they were printed; or git or a file cannot be read.
pub fn check(root: &Path) -> Result<(), String> {
    let mut breaches = Vec::new();
    for path in files(root)? {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        let name = path.to_string_lossy().into_owned();
        if name.ends_with(".rs") {
            rust(&name, &text, &mut breaches);
        }
        if name.ends_with("Cargo.toml") {
            arrows(&name, &text, &mut breaches);
        }
    }
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    match breaches.len() {
        0 => Ok(()),
        n => Err(format!("{n} breaches of docs/STYLE.md")),
    }
}

fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("starting git: {error}"))?;
    if !listed.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)));
    }
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(PathBuf::from).collect())
}

fn rust(name: &str, text: &str, breaches: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        breaches.push(format!("{name}: {lines} lines; at most {FILE_LINES_MAX}: split it"));
    }
    if !text.starts_with("//!") && !text.contains("\n//!") {
        breaches.push(format!("{name}: no `//!` that says what it decides"));
    }
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        // Tables of data may be wider than prose.
        if line.chars().count() > COLUMNS_MAX && !line.contains('"') {
            breaches.push(format!("{name}:{number}: over {COLUMNS_MAX} columns"));
        }
        // This file names what it bans.
        for (word, instead) in BANNED.iter().filter(|_| !name.ends_with("tidy.rs")) {
            if line.contains(word) {
                breaches.push(format!("{name}:{number}: `{word}`: {instead}"));
            }
        }
    }
}

/// A dependency that the crate's row in the map does not allow.
fn arrows(name: &str, text: &str, breaches: &mut Vec<String>) {
    let krate = name.trim_end_matches("/Cargo.toml");
    let Some((_, allowed)) = ARROWS.iter().find(|(at, _)| *at == krate) else { return };
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let Some(dependency) = line.split(['.', '=', ' ']).next().filter(|d| !d.is_empty()) else {
            continue;
        };
        if section != "[dependencies]" || line.starts_with(['[', '#']) {
            continue;
        }
        let ours = dependency.starts_with("muster");
        if !allowed.contains(&dependency) && (ours || !allowed.contains(&"*")) {
            breaches.push(format!(
                "{name}: {krate} may not depend on {dependency}; see docs/ARCHITECTURE.md"
            ));
        }
    }
}
