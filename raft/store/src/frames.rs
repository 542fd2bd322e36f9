//! The frames of RocksDB's own logs (its manifest and its write-ahead logs), looked at before
//! RocksDB reads them.
//!
//! A log is blocks of 32 KiB, a block is records, and each begins with a checksum (4 bytes), a
//! length (2) and a type (1). The type says whether a record is whole, and whether the file was
//! used before for another log. Two kinds of damage RocksDB 11.8 does not find by itself:
//! - a type that says the file was used before. We never have files used again (`open::options`),
//!   and RocksDB reads such a one for ever: a process that never starts and says nothing;
//! - a length that leads beyond the end of the file. It is taken for a write that a power cut cut
//!   short, and what stands behind it is forgotten: in a manifest, a table with all its rows. But
//!   the checksum does not cover the length, so a record that is whole still tells how long it is.
//!
//! Invariant: all else that may be wrong is left for RocksDB to find, by its checksums.

use crate::error::StoreError;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;
/// Whole, first, middle and last: what is written here.
const TYPES: std::ops::RangeInclusive<u8> = 0..=4;
/// What RocksDB adds to a checksum that it stores.
const MASK: u32 = 0xa282_ead8;

/// Looks through all logs of a database that nobody has open.
///
/// # Errors
/// A record of a type that is never written or with a damaged length; a file that cannot be read.
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
        let found = look(&block[..length], length < BLOCK);
        if let Err((at, what)) = found {
            let why = format!("the record at byte {} {what}", number * BLOCK as u64 + at as u64);
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

/// Where a record is damaged in one of the two ways, and in which. A length that leads out of a
/// block in the middle of the file is found by RocksDB: what follows it there is no record.
fn look(block: &[u8], last: bool) -> Result<(), (usize, String)> {
    let mut at = 0;
    while let Some(header) = block.get(at..at + HEADER) {
        let kind = header[6];
        if !TYPES.contains(&kind) {
            return Err((at, format!("is of type {kind}, which is never written")));
        }
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let rest = &block[at + HEADER..];
        if last && length > rest.len() && is_whole(header, rest) {
            return Err((at, format!("is whole, and shorter than the {length} bytes it names")));
        }
        at += HEADER + length;
    }
    Ok(())
}

/// Whether the checksum is that of a part of what follows: then nothing was cut short.
fn is_whole(header: &[u8], rest: &[u8]) -> bool {
    let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let wanted = stored.wrapping_sub(MASK).rotate_left(15);
    let mut checksum = crc32c::crc32c(&header[6..HEADER]);
    for byte in rest {
        checksum = crc32c::crc32c_append(checksum, std::slice::from_ref(byte));
        if checksum == wanted {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let [low, high] = length.to_le_bytes();
        let mut bytes = vec![0, 0, 0, 0, low, high, kind];
        bytes.resize(HEADER + usize::from(length), 9);
        let checksum = crc32c::crc32c(&bytes[6..]).rotate_right(15).wrapping_add(MASK);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_record_of_a_type_that_is_never_written_is_found_where_it_is() {
        let whole = [record(1, 20), record(2, 5), record(4, 0)].concat();
        assert_eq!(look(&whole, true), Ok(()));
        let recycled = [record(1, 20), record(5, 5)].concat();
        assert_eq!(look(&recycled, true).unwrap_err().0, HEADER + 20);
        assert_eq!(look(&[0; 100], true), Ok(()));
        assert_eq!(look(&[7; 6], true), Ok(()));
    }

    #[test]
    fn a_write_that_was_cut_short_is_told_from_a_length_that_is_damaged() {
        let whole = [record(1, 20), record(1, 300), record(1, 40)].concat();
        for end in 0..whole.len() {
            assert_eq!(look(&whole[..end], true), Ok(()), "cut at {end}");
        }
        let mut damaged = whole.clone();
        damaged[HEADER + 20 + 5] ^= 4;
        assert_eq!(look(&damaged, true).unwrap_err().0, HEADER + 20);
        assert_eq!(look(&damaged, false), Ok(()), "RocksDB finds it");
    }

    #[test]
    fn each_block_is_looked_at_on_its_own_and_other_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = record(1, 100);
        // Damage in the first block does not hide the second.
        log.resize(BLOCK, 3);
        log[107..114].copy_from_slice(&[0, 0, 0, 0, 0xff, 0xff, 1]);
        log.extend(record(6, 5));
        std::fs::write(dir.path().join("LOG"), &log).unwrap();
        check(dir.path()).unwrap();
        std::fs::write(dir.path().join("000004.log"), &log).unwrap();
        let said = check(dir.path()).unwrap_err().to_string();
        assert!(said.contains("000004.log") && said.contains("byte 32768 is of type 6"), "{said}");
    }
}
