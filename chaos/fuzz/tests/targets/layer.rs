//! Layers: gzip, zstd and plain tar with hostile paths, links, whiteouts, devices and sizes.
//!
//! Whatever the archive says, nothing outside its directory is touched, and no more is written than
//! a layer may unpack to. Checksums of headers are put right first, as an attacker would.

use muster_agent::image::LayerLimits;
use muster_agent::image::layer::unpack;
use nix::sys::resource::{Resource, setrlimit};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tar::{Builder, EntryType, Header};

const LIMITS: LayerLimits =
    LayerLimits { packed_bytes_max: 1 << 20, unpacked_bytes_max: 1 << 20, files_max: 100 };
/// A breach ends here instead of on a full disk.
const FILE_BYTES_MAX: u64 = 64 << 20;
const BLOCK: usize = 512;

#[test]
fn image_layer() {
    setrlimit(Resource::RLIMIT_FSIZE, FILE_BYTES_MAX, FILE_BYTES_MAX).expect("a limit of our own");
    muster_fuzz::target("image_layer", seeds, |input| {
        let mut input = input.to_vec();
        repair(&mut input);
        let root = tempfile::tempdir().expect("a directory");
        let (dir, outside) = (root.path().join("layer"), root.path().join("outside"));
        fs::create_dir(&dir).expect("a directory");
        fs::write(&outside, "untouched").expect("a file");
        let before = fs::metadata(&outside).expect("a file");
        if let Ok(unpacked) = unpack(&input[..], &dir, &LIMITS) {
            assert!(unpacked.bytes <= LIMITS.unpacked_bytes_max);
            assert!(unpacked.files <= LIMITS.files_max);
        }
        let written = bytes_in(&dir);
        assert!(written <= LIMITS.unpacked_bytes_max, "{written} bytes were written");
        assert_eq!(fs::read(&outside).expect("still there"), b"untouched");
        let after = fs::symlink_metadata(&outside).expect("still there");
        let facts = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.nlink(), m.mtime(), m.ino());
        assert_eq!(facts(&after), facts(&before));
        assert_eq!(fs::read_dir(root.path()).expect("a directory").count(), 2);
    });
}

fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.path().symlink_metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
        // Hard links are one file.
        Ok(meta) if meta.is_file() => meta.len() / meta.nlink().max(1),
        _ => 0,
    });
    sizes.sum()
}

/// Puts the checksum of every header of a plain archive right, wherever the sizes say one is.
fn repair(archive: &mut [u8]) {
    let packed = archive.starts_with(&[0x1f, 0x8b]) || archive.starts_with(&[0x28, 0xb5, 0x2f]);
    let mut at = 0;
    while !packed && let Some(block) = archive.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            return;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = Header::from_byte_slice(block).entry_size().unwrap_or(0);
        let Ok(size) = usize::try_from(size.min(u64::from(u32::MAX))) else { return };
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}

/// An archive put together without the checks of an honest tool.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        self.0.append(&header, data).expect("in memory");
        self
    }

    /// A file of a hole of `hole` bytes, and one block behind it.
    fn sparse(mut self, path: &str, hole: u64) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(BLOCK as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let gnu = header.as_gnu_mut().expect("a GNU header");
        gnu.sparse[0].offset.copy_from_slice(format!("{hole:011o}\0").as_bytes());
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.realsize.copy_from_slice(format!("{:011o}\0", hole + BLOCK as u64).as_bytes());
        header.set_cksum();
        self.0.append(&header, &[7; BLOCK][..]).expect("in memory");
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("in memory")
    }
}

fn seeds() -> Vec<Vec<u8>> {
    use EntryType as E;
    let plain = Tar::new()
        .entry(E::Directory, "etc/", "", &[])
        .entry(E::Regular, "etc/passwd", "", b"root:x:0:0::/:/bin/sh\n")
        .entry(E::Symlink, "bin", "usr/bin", &[])
        .entry(E::Link, "etc/group", "etc/passwd", &[])
        .bytes();
    let hostile = Tar::new()
        .entry(E::Symlink, "up", "../..", &[])
        .entry(E::Regular, "up/outside", "", b"gotcha")
        .entry(E::Link, "hard", "../outside", &[])
        .entry(E::Regular, "/../outside", "", b"gotcha")
        .bytes();
    let whiteouts = Tar::new()
        .entry(E::Regular, "a/.wh.b", "", &[])
        .entry(E::Regular, "a/.wh..wh..opq", "", &[])
        .entry(E::Char, "dev/null", "", &[])
        .entry(E::Fifo, "dev/pipe", "", &[])
        .bytes();
    let named = Tar::new()
        .entry(E::XHeader, "pax", "", b"30 SCHILY.xattr.user.mime=text\n15 path=a/b/c\n")
        .entry(E::Regular, "x", "", b"data")
        .entry(E::GNULongName, "././@LongLink", "", &[b'n'; 200])
        .entry(E::Regular, "short", "", b"data")
        .bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    let zstd = zstd::encode_all(&plain[..], 1).expect("in memory");
    let sparse = Tar::new().sparse("hole", 4096).bytes();
    let bomb = Tar::new().sparse("hole", 32 << 20).bytes();
    vec![plain, hostile, whiteouts, named, sparse, gzip, zstd, bomb]
}
