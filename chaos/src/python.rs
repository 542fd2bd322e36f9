//! Clients from PyPI, as people install them: an environment of its own with pinned packages.
//!
//! It does not know what they are used for. Invariant: the environment is gone when it is dropped.

use crate::lab::root;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A directory with an interpreter and the packages of a requirements file.
pub struct Environment {
    dir: tempfile::TempDir,
}

impl Environment {
    /// # Panics
    /// There is no Python with `venv`, or a package cannot be had.
    pub fn install(requirements: &Path) -> Self {
        Self::with(&["-r", &requirements.to_string_lossy()])
    }

    /// The packages that `pip install` takes these words for. Pin their versions: what a test
    /// compares with must not change under it.
    ///
    /// # Panics
    /// As [`Environment::install`].
    pub fn with(words: &[&str]) -> Self {
        let dir =
            tempfile::tempdir().unwrap_or_else(|error| panic!("temporary directory: {error}"));
        let environment = Self { dir };
        let made = environment.dir.path().join("venv");
        done(Command::new("python3").args(["-m", "venv"]).arg(&made));
        let mut pip = Command::new(environment.program("python"));
        done(pip.args(["-m", "pip", "install", "--quiet", "--no-compile"]).args(words));
        environment
    }

    /// A program that came with the packages, or `python` itself.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join("venv/bin").join(name)
    }

    /// For what else belongs to it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Puts the environment's programs, and those of another directory, before all others.
    pub fn enter(&self, command: &mut Command, more: Option<&Path>) {
        let mut path = self.dir.path().join("venv/bin").into_os_string();
        for each in more.map(Path::as_os_str).into_iter().chain(std::env::var_os("PATH").as_deref())
        {
            path.push(":");
            path.push(each);
        }
        command.env("PATH", path);
    }
}

/// The clients of ECS, at the versions that the tests were written against. Tests that run at the
/// same time share one environment, of some 200 MB.
///
/// # Panics
/// As [`Environment::install`].
pub fn ecs_clients() -> Arc<Environment> {
    static SHARED: Mutex<Weak<Environment>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let requirements = root().join("chaos/tests/ecs/requirements.txt");
        let made = Arc::new(Environment::install(&requirements));
        *shared = Arc::downgrade(&made);
        made
    })
}

/// Runs a command that must succeed; what it printed.
///
/// # Panics
/// It fails; with all that it printed.
pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{complained}", output.status);
    said
}
