//! A Python of a test's own, with packages from PyPI.
//!
//! It knows nothing of what the packages are for. Invariant: nothing is installed outside its
//! directory, which is gone when it is dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An interpreter and its packages.
pub struct Python {
    dir: tempfile::TempDir,
}

impl Python {
    /// With the packages that `pip install` takes these words for. Pin their versions: what a test
    /// compares with must not change under it.
    ///
    /// # Panics
    /// No Python with `venv` on this machine, or pip finds no such packages.
    pub fn install(words: &[&str]) -> Self {
        let dir = tempfile::tempdir()
            .unwrap_or_else(|error| panic!("a directory for Python's packages: {error}"));
        let python = Self { dir };
        let venv = python.dir().join("venv");
        output(Path::new("python3"), &["-m", "venv", &venv.to_string_lossy()]);
        let mut install = vec!["-m", "pip", "install", "--quiet", "--no-compile"];
        install.extend(words);
        python.run(&install);
        python
    }

    /// What it printed.
    ///
    /// # Panics
    /// It failed.
    pub fn run(&self, words: &[&str]) -> Vec<u8> {
        output(&self.interpreter(), words)
    }

    pub fn interpreter(&self) -> PathBuf {
        self.dir().join("venv/bin/python")
    }

    /// For files beside the packages.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn output(program: &Path, words: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(
        output.status.success(),
        "{} {}: {}",
        program.display(),
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
