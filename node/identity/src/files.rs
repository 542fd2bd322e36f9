//! An identity on disk: `ca.pem`, `cert.pem` and `key.pem` in one directory.
//!
//! Three files cannot be renamed as one, and a key beside another key's certificate is a machine
//! locked out. So a save first completes the set in `next/` (the rename of `next.tmp` to `next`
//! is the commit) and then moves the files up; a read that finds `next/` finishes the moving.
//!
//! Invariant: at every moment, a crash leaves the old identity whole or the new one.

use crate::error::Error;
use crate::identity::IdentityPem;
use crate::limits::PEM_BYTES_MAX;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

const CA: &str = "ca.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const NEXT: &str = "next";
const UNFINISHED: &str = "next.tmp";

pub fn read(dir: &Path) -> Result<IdentityPem, Error> {
    finish(dir)?;
    Ok(IdentityPem {
        ca: read_file(&dir.join(CA))?,
        cert: read_file(&dir.join(CERT))?,
        key: read_file(&dir.join(KEY))?,
    })
}

pub fn write(dir: &Path, pem: &IdentityPem) -> Result<(), Error> {
    let unfinished = dir.join(UNFINISHED);
    make_dir(dir)?;
    finish(dir)?;
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &unfinished, error));
        }
        _ => {}
    }
    make_dir(&unfinished)?;
    write_file(&unfinished.join(CA), 0o644, &pem.ca)?;
    write_file(&unfinished.join(CERT), 0o644, &pem.cert)?;
    write_file(&unfinished.join(KEY), 0o600, &pem.key)?;
    sync_dir(&unfinished)?;
    rename(&unfinished, &dir.join(NEXT))?;
    sync_dir(dir)?;
    finish(dir)
}

/// Moves what is in `next/` up, if there is one. Each step may be the last before a crash, and
/// all of them may be repeated.
fn finish(dir: &Path) -> Result<(), Error> {
    let next = dir.join(NEXT);
    if !next.is_dir() {
        return Ok(());
    }
    for name in [CA, CERT, KEY] {
        let from = next.join(name);
        if from.exists() {
            rename(&from, &dir.join(name))?;
        }
    }
    // The moves must be on disk before `next` is gone, which is what says that they are done.
    sync_dir(dir)?;
    fs::remove_dir(&next).map_err(|error| failed("remove", &next, error))?;
    sync_dir(dir)
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| failed("make directory", dir, error))
}

fn write_file(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| failed("write", path, error))
}

fn read_file(path: &Path) -> Result<String, Error> {
    let read = || {
        let mut text = String::new();
        let limit = PEM_BYTES_MAX as u64 + 1;
        File::open(path)?.take(limit).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| failed("read", path, error))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| failed("move into place", to, error))
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("sync", dir, error))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source: Arc::new(source) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pem(text: &str) -> IdentityPem {
        IdentityPem {
            ca: format!("ca {text}"),
            cert: format!("cert {text}"),
            key: format!("key {text}"),
        }
    }

    /// Puts `dir` where a save of `new` stops after `moved` files were moved up.
    fn crash_after_commit(dir: &Path, new: &IdentityPem, moved: usize) {
        let next = dir.join(NEXT);
        make_dir(&next).unwrap();
        let files = [(CA, &new.ca), (CERT, &new.cert), (KEY, &new.key)];
        for (position, (name, text)) in files.into_iter().enumerate() {
            let place = if position < moved { dir } else { next.as_path() };
            fs::write(place.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_crash_after_the_commit_gives_the_new_identity() {
        for moved in 0..=3 {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &pem("old")).unwrap();
            crash_after_commit(dir.path(), &pem("new"), moved);
            assert_eq!(read(dir.path()).unwrap(), pem("new"), "{moved} moved");
            assert!(!dir.path().join(NEXT).exists());
        }
    }

    #[test]
    fn a_crash_before_the_commit_gives_the_old_identity_and_the_next_save_works() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &pem("old")).unwrap();
        let unfinished = dir.path().join(UNFINISHED);
        make_dir(&unfinished).unwrap();
        fs::write(unfinished.join(KEY), "key new").unwrap();
        assert_eq!(read(dir.path()).unwrap(), pem("old"));
        write(dir.path(), &pem("new")).unwrap();
        assert_eq!(read(dir.path()).unwrap(), pem("new"));
        assert!(!unfinished.exists());
    }

    #[test]
    fn a_save_after_a_crash_does_not_mix_the_two() {
        let dir = tempfile::tempdir().unwrap();
        crash_after_commit(dir.path(), &pem("middle"), 1);
        write(dir.path(), &pem("new")).unwrap();
        assert_eq!(read(dir.path()).unwrap(), pem("new"));
    }
}
