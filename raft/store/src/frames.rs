//! The frames of RocksDB's own logs (its manifest and its write-ahead logs), looked at before
//! RocksDB reads them.
//!
//! A log is blocks of 32 KiB, a block is records, and each begins with a checksum (4 bytes), a
//! length (2) and a type (1). The type says whether a record is whole, and whether the file was
//! used before for another log. We never have files used again (`open::options`), and RocksDB 11.8
//! reads for ever where one flipped bit says that one is: a process that never starts and says
//! nothing. Invariant: all else that may be wrong is left for RocksDB to find, by its checksums.

use crate::error::StoreError;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;
/// Whole, first, middle and last: what is written here.
const TYPES: std::ops::RangeInclusive<u8> = 0..=4;

/// Looks through all logs of a database that nobody has open.
///
/// # Errors
/// A record of a type that is never written, or a file that cannot be read.
pub fn check(database: &Path) -> Result<(), StoreError> {
    let entries = std::fs::read_dir(database).map_err(|e| StoreError::io(database, e))?;
    for entry in entries {
        let path = entry.map_err(|e| StoreError::io(database, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("MANIFEST-") || name.ends_with(".log") {
            file(&path)?;
        }
    }
    Ok(())
}

fn file(path: &Path) -> Result<(), StoreError> {
    let file = File::open(path).map_err(|e| StoreError::io(path, e))?;
    let mut reader = BufReader::with_capacity(BLOCK, file);
    let mut block = vec![0; BLOCK];
    for number in 0_u64.. {
        let length = fill(&mut reader, &mut block).map_err(|e| StoreError::io(path, e))?;
        if let Some((at, found)) = foreign(&block[..length]) {
            let at = number * BLOCK as u64 + at as u64;
            let why = format!("the record at byte {at} is of type {found}, which is never written");
            return Err(StoreError::corrupt(path, why));
        }
        if length < BLOCK {
            break;
        }
    }
    Ok(())
}

/// As much of the block as there is.
fn fill(reader: &mut impl Read, block: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match reader.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

/// Where the first record of another type begins, and its type. A length that leads out of the
/// block is damage too: what follows it in this block is no record.
fn foreign(block: &[u8]) -> Option<(usize, u8)> {
    let mut at = 0;
    while let Some(header) = block.get(at..at + HEADER) {
        let found = header[6];
        if !TYPES.contains(&found) {
            return Some((at, found));
        }
        at += HEADER + usize::from(u16::from_le_bytes([header[4], header[5]]));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let [low, high] = length.to_le_bytes();
        let mut bytes = vec![1, 2, 3, 4, low, high, kind];
        bytes.resize(HEADER + usize::from(length), 9);
        bytes
    }

    #[test]
    fn a_record_of_a_type_that_is_never_written_is_found_where_it_is() {
        let whole = [record(1, 20), record(2, 5), record(4, 0)].concat();
        assert_eq!(foreign(&whole), None);
        let recycled = [record(1, 20), record(5, 5)].concat();
        assert_eq!(foreign(&recycled), Some((HEADER + 20, 5)));
        assert_eq!(foreign(&[record(1, 60_000), record(9, 5)].concat()[..1000]), None);
        assert_eq!(foreign(&[0; 100]), None);
        assert_eq!(foreign(&[7; 6]), None);
    }

    #[test]
    fn each_block_is_looked_at_on_its_own_and_other_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = record(1, 100);
        // Damage in the first block does not hide the second.
        log.resize(BLOCK, 3);
        log[107 + 4..107 + 7].copy_from_slice(&[0xff, 0xff, 1]);
        log.extend(record(6, 5));
        std::fs::write(dir.path().join("LOG"), &log).unwrap();
        check(dir.path()).unwrap();
        std::fs::write(dir.path().join("000004.log"), &log).unwrap();
        let said = check(dir.path()).unwrap_err().to_string();
        assert!(said.contains("000004.log") && said.contains("byte 32768 is of type 6"), "{said}");
    }
}
