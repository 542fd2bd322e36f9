//! Unpacking one layer: every kind of entry, whiteouts, and archives that mean harm.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use muster_agent::image::LayerLimits;
use muster_agent::image::layer::{Unpacked, unpack};
use muster_agent::image::manifest::digest_of;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// An archive put together entry by entry, without the checks of an honest tool.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, path: &str, size: usize) -> Header {
        let mut header = Header::new_gnu();
        // Not `set_path`: that one refuses what an attacker would write.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header
    }

    fn append(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.append(Self::header(EntryType::Regular, path, data.len()), data.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        self.append(Self::header(EntryType::Directory, path, 0), &[])
    }

    fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = Self::header(kind, path, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.append(header, &[])
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    /// Unpacks into `root/fs`, beside which `root/outside` must stay as it is.
    fn unpack(self, root: &TempDir) -> io::Result<Unpacked> {
        unpack_bytes(&self.tar(), root, &LayerLimits::STANDARD)
    }
}

fn unpack_bytes(bytes: &[u8], root: &TempDir, limits: &LayerLimits) -> io::Result<Unpacked> {
    let dir = root.path().join("fs");
    fs::create_dir_all(&dir).unwrap();
    fs::write(root.path().join("outside"), "untouched").unwrap();
    let result = unpack(bytes, &dir, limits);
    assert_eq!(fs::read_to_string(root.path().join("outside")).unwrap(), "untouched");
    result
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn opaque(path: &Path) -> bool {
    let mut buffer = [0; 8];
    let name = "trusted.overlay.opaque";
    rustix::fs::getxattr(path, name, &mut buffer[..]).is_ok_and(|n| &buffer[..n] == b"y")
}

#[test]
fn entries_keep_owner_mode_time_and_links() {
    let root = scratch();
    let mut owned = Layer::header(EntryType::Regular, "d/set-uid", 1);
    owned.set_uid(1000);
    owned.set_gid(1001);
    owned.set_mode(0o4750);
    let mut device = Layer::header(EntryType::Char, "d/null", 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    let done = Layer::new()
        .dir("./")
        .dir("d/")
        .append(owned, b"x")
        .link(EntryType::Link, "d/same", "d/set-uid")
        .symlink("d/absolute", "/etc/target")
        .append(device, &[])
        .file("no/parents/listed", "y")
        .unpack(&root)
        .unwrap();
    assert_eq!(done.files, 7);
    let fs = root.path().join("fs");
    let meta = fs::metadata(fs.join("d/set-uid")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1000, 1001, 0o4750));
    assert_eq!((meta.nlink(), meta.mtime()), (2, 1_000_000_000));
    assert_eq!(fs::metadata(fs.join("d")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(fs.join("d/absolute")).unwrap(), Path::new("/etc/target"));
    assert!(fs::metadata(fs.join("d/null")).unwrap().file_type().is_char_device());
    assert_eq!(fs::read_to_string(fs.join("no/parents/listed")).unwrap(), "y");
}

#[test]
fn paths_that_climb_out_are_refused() {
    for layer in [
        Layer::new().file("../outside", "evil"),
        Layer::new().file("a/../../outside", "evil"),
        Layer::new().dir("d").link(EntryType::Link, "d/x", "../outside"),
        Layer::new().link(EntryType::Link, "x", "../../etc/passwd"),
        Layer::new().file("d/.wh...", ""),
    ] {
        let root = scratch();
        let error = layer.unpack(&root).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

#[test]
fn links_lead_nowhere_but_inside() {
    // Writing through a link that points out lands inside the layer, or fails.
    for target in ["/", "..", "../..", "/tmp"] {
        let root = scratch();
        let outside = root.path().join("outside").display().to_string();
        let climbed = Layer::new().symlink("up", target).file("up/outside", "evil");
        let _ = climbed.unpack(&root);
        assert_eq!(fs::read_to_string(outside).unwrap(), "untouched");
    }
    // A link to the file itself is replaced, not followed.
    let root = scratch();
    let outside = root.path().join("outside").display().to_string();
    Layer::new().symlink("f", &outside).file("f", "own").unpack(&root).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("fs/f")).unwrap(), "own");
    // A hard link through a link out finds nothing.
    let root = scratch();
    let up = Layer::new().symlink("up", "..").link(EntryType::Link, "x", "up/outside");
    assert!(up.unpack(&root).unwrap_err().to_string().contains("hard link"));
    // An absolute path means the layer's root.
    let root = scratch();
    Layer::new().file("/etc/muster-test-absolute", "in").unpack(&root).unwrap();
    assert!(!Path::new("/etc/muster-test-absolute").exists());
    assert!(root.path().join("fs/etc/muster-test-absolute").exists());
}

#[test]
fn directories_are_merged_and_other_things_replaced() {
    let root = scratch();
    Layer::new()
        .dir("d")
        .file("d/kept", "1")
        .dir("d")
        .file("x", "old")
        .dir("x")
        .file("x/y", "2")
        .dir("z")
        .file("z/gone", "3")
        .file("z", "new")
        .unpack(&root)
        .unwrap();
    let fs = root.path().join("fs");
    assert_eq!(fs::read_to_string(fs.join("d/kept")).unwrap(), "1");
    assert_eq!(fs::read_to_string(fs.join("x/y")).unwrap(), "2");
    assert_eq!(fs::read_to_string(fs.join("z")).unwrap(), "new");
}

#[test]
fn whiteouts_become_what_overlayfs_understands() {
    let root = scratch();
    Layer::new()
        .dir("a")
        .file("a/.wh.gone", "")
        .dir("b")
        .file("b/.wh..wh..opq", "")
        .file("b/new", "n")
        .file(".wh..wh.plnk", "")
        .file(".wh.c", "")
        .dir("c")
        .file("c/again", "g")
        .unpack(&root)
        .unwrap();
    let fs = root.path().join("fs");
    let gone = fs::symlink_metadata(fs.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(opaque(&fs.join("b")) && !opaque(&fs.join("a")));
    assert!(opaque(&fs.join("c")), "a directory made anew hides what was below");
    let names = fs::read_dir(&fs).unwrap().count();
    assert_eq!(names, 3);
}

#[test]
fn every_compression_gives_the_same_layer() {
    let plain = Layer::new().file("f", "same").tar();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (one, two) = plain.split_at(700);
    let forms = [
        plain.clone(),
        gzip(&plain),
        // Two members, as parallel gzip writes them.
        [gzip(one), gzip(two)].concat(),
        zstd::encode_all(&plain[..], 1).unwrap(),
    ];
    for form in forms {
        let root = scratch();
        let done = unpack_bytes(&form, &root, &LayerLimits::STANDARD).unwrap();
        assert_eq!(done.diff_id, digest_of(&plain));
        assert_eq!(fs::read_to_string(root.path().join("fs/f")).unwrap(), "same");
    }
}

#[test]
fn a_missing_end_mark_is_forgiven_and_a_torn_file_is_not() {
    let whole = Layer::new().file("f", "data").tar();
    let root = scratch();
    let done = unpack_bytes(&whole[..1024], &root, &LayerLimits::STANDARD).unwrap();
    assert_eq!(done.diff_id, digest_of(&whole[..1024]));
    let long = Layer::new().file("f", &"x".repeat(5000)).tar();
    assert!(unpack_bytes(&long[..2000], &scratch(), &LayerLimits::STANDARD).is_err());
}

#[test]
fn bombs_are_stopped_at_the_limits() {
    let limits =
        LayerLimits { packed_bytes_max: 1 << 20, unpacked_bytes_max: 100_000, files_max: 10 };
    let zeros = Layer::new().file("zeros", &"\0".repeat(10 << 20)).tar();
    let packed = zstd::encode_all(&zeros[..], 1).unwrap();
    assert!(packed.len() < 10_000);
    let error = unpack_bytes(&packed, &scratch(), &limits).unwrap_err();
    assert!(error.to_string().contains("100000 bytes"), "{error}");
    let many = (0..11).fold(Layer::new(), |layer, n| layer.file(&n.to_string(), ""));
    let error = unpack_bytes(&many.tar(), &scratch(), &limits).unwrap_err();
    assert!(error.to_string().contains("10 files"), "{error}");
}

/// Makes the checksum of a header right again, so that damage in its other fields is read at all.
fn mend(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn holes_count_as_what_they_would_be_on_the_disk() {
    let mut header = Layer::header(EntryType::GNUSparse, "hole", 512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].offset.copy_from_slice(b"77777777000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    gnu.realsize.copy_from_slice(b"100000000000");
    let root = scratch();
    let limits = LayerLimits { unpacked_bytes_max: 1 << 20, ..LayerLimits::STANDARD };
    let layer = Layer::new().append(header, &[7; 512]).tar();
    let error = unpack_bytes(&layer, &root, &limits).unwrap_err();
    assert!(error.to_string().contains("1048576 bytes"), "{error}");
    assert!(!root.path().join("fs/hole").exists());
}

#[test]
fn a_name_without_end_is_not_read_into_memory() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let length = 1usize << 32;
        let mut header = Layer::header(kind, "././@LongLink", length);
        header.set_cksum();
        let name = io::repeat(b'n').take(length as u64);
        let archive = io::Cursor::new(header.as_bytes().to_vec()).chain(name);
        let error = unpack(archive, scratch().path(), &LayerLimits::STANDARD).unwrap_err();
        assert!(error.to_string().contains("described by more than"), "{error}");
    }
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    let good = Layer::new().dir("d").file("d/f", "data").symlink("l", "d").tar();
    for cut in [0, 1, 100, 511, 513] {
        let _ = unpack_bytes(&good[..cut], &scratch(), &LayerLimits::STANDARD);
    }
    let mut seed = 7u32;
    for round in 0..400 {
        let mut bad = good.clone();
        for _ in 0..8 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (seed >> 8) as usize % bad.len();
            bad[at] = (seed >> 24) as u8;
        }
        // Every other time the damage passes the checksums: blocks 0, 1 and 3 are headers.
        if round % 2 == 0 {
            for at in [0, 512, 1536] {
                mend(&mut bad[at..at + 512]);
            }
        }
        let _ = unpack_bytes(&bad, &scratch(), &LayerLimits::STANDARD);
    }
}
