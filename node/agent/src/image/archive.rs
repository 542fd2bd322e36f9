//! The entries of a tar from a stranger, one after the other, in bounded memory.
//!
//! Names and attributes of an entry may be longer than its header block; the `tar` crate reads them
//! into memory whole, whatever length they claim. It does not know what an entry is taken for.
//! Invariant: what describes one entry is at most [`HEADER_BYTES_MAX`] long.

use std::cell::Cell;
use std::io::{self, Read};
use tar::{Archive, Entry};

/// Long name, link and attributes of one entry: 1 MiB each, as Go's archive/tar reads them (and so
/// Docker and containerd), and the map of a sparse file.
pub const HEADER_BYTES_MAX: u64 = 4 << 20;

/// Hands each entry to `take`, which may leave its content unread.
///
/// # Errors
/// Of reading, of `take`, and when an entry is described at greater length than is allowed.
pub fn for_each<R: Read>(
    from: R,
    mut take: impl FnMut(&mut Entry<'_, Metered<'_, R>>) -> io::Result<()>,
) -> io::Result<()> {
    let left = Cell::new(HEADER_BYTES_MAX);
    let mut archive = Archive::new(Metered { inner: from, left: &left });
    let mut entries = archive.entries()?;
    loop {
        left.set(HEADER_BYTES_MAX);
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry?;
        left.set(u64::MAX);
        take(&mut entry)?;
        // What is left of the content must not count as the next header. Holes of a sparse file are
        // not in the archive: reading them could last for ever.
        if !entry.header().entry_type().is_gnu_sparse() {
            io::copy(&mut entry, &mut io::sink())?;
        }
    }
}

/// A reader that gives out so many bytes and then fails.
pub struct Metered<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an entry is described by more than {HEADER_BYTES_MAX} bytes"),
            ));
        }
        let n = self.inner.read(&mut buffer[..wanted])?;
        self.left.set(left - n as u64);
        Ok(n)
    }
}
