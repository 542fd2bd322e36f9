//! Unpacks one layer into the form overlayfs wants, without ever leaving its directory.
//!
//! Every path of the archive is resolved by the kernel inside the layer's root (`openat2` with
//! RESOLVE_IN_ROOT), so neither `..`, nor absolute paths, nor links reach outside. Whiteouts become
//! character devices 0:0 and opaque directories an attribute. The bytes are hashed as they pass:
//! the caller compares the digest before the directory gets a name.

use super::manifest::digest_text;
use super::{LayerLimits, archive};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tar::{Entry, EntryType};

/// Bytes of zeros after the archive for tools that leave out its end mark.
const END_MARK_BYTES: u64 = 1024;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the uncompressed archive: `sha256:...`.
    pub diff_id: String,
    pub files: u64,
    pub bytes: u64,
}

/// Unpacks `packed` (plain, gzip or zstd, told by its first bytes) into the empty directory `dir`.
pub fn unpack<'a>(
    packed: impl Read + 'a,
    dir: &Path,
    limits: &LayerLimits,
) -> io::Result<Unpacked> {
    let mut packed = BufReader::with_capacity(128 << 10, packed);
    let magic = io::BufRead::fill_buf(&mut packed)?;
    let plain: Box<dyn Read + 'a> = if magic.starts_with(&[0x1f, 0x8b]) {
        // Several members in one file are legal.
        Box::new(flate2::bufread::MultiGzDecoder::new(packed))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(packed)?)
    } else {
        Box::new(packed)
    };
    let mut hashed = Hashed { inner: plain, hash: Sha256::new(), bytes: 0, limits: *limits };
    let files = unpack_entries(&mut hashed, dir, limits)?;
    // What follows the end mark belongs to the digest too.
    io::copy(&mut hashed, &mut io::sink())?;
    Ok(Unpacked {
        diff_id: digest_text(hashed.hash.finalize().as_slice()),
        files,
        bytes: hashed.bytes,
    })
}

fn unpack_entries(plain: &mut Hashed<'_>, dir: &Path, limits: &LayerLimits) -> io::Result<u64> {
    let mut target = Target::open(dir)?;
    let (mut files, mut bytes) = (0, 0u64);
    archive::for_each(plain.chain(io::repeat(0).take(END_MARK_BYTES)), |entry| {
        files += 1;
        if files > limits.files_max {
            return Err(bad(format!("layer has more than {} files", limits.files_max)));
        }
        // The holes of a sparse file are not in the archive, but they would be on the disk.
        bytes = bytes.saturating_add(entry.size());
        if bytes > limits.unpacked_bytes_max {
            return Err(too_large(limits));
        }
        target.add(entry)
    })?;
    target.finish()?;
    Ok(files)
}

fn bad(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn too_large(limits: &LayerLimits) -> io::Error {
    bad(format!("layer unpacks to more than {} bytes", limits.unpacked_bytes_max))
}

struct Hashed<'a> {
    inner: Box<dyn Read + 'a>,
    hash: Sha256,
    bytes: u64,
    limits: LayerLimits,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        if self.bytes > self.limits.unpacked_bytes_max {
            return Err(too_large(&self.limits));
        }
        Ok(n)
    }
}

/// A path of the archive: the directory it is in, and its last part (none for the root itself).
struct Place {
    parent: Vec<u8>,
    name: Option<Vec<u8>>,
}

fn place(path: &[u8]) -> io::Result<Place> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let shown = String::from_utf8_lossy(path).into_owned();
                return Err(bad(format!("path {shown:?} in the layer leaves it by \"..\"")));
            }
            part => parts.push(part),
        }
    }
    let name = parts.pop().map(<[u8]>::to_vec);
    Ok(Place { parent: parts.join(&b'/'), name })
}

/// Owner, mode and time of an entry.
struct Meta {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    times: Timestamps,
}

impl Meta {
    fn of(header: &tar::Header) -> io::Result<Self> {
        let id = |n: u64| u32::try_from(n).ok().filter(|n| *n != u32::MAX);
        let raw = header.as_old();
        let (uid, gid) = (number(&raw.uid, header.uid())?, number(&raw.gid, header.gid())?);
        let uid = id(uid).ok_or_else(|| bad("owner is out of range".into()))?;
        let gid = id(gid).ok_or_else(|| bad("group is out of range".into()))?;
        let seconds = number(&raw.mtime, header.mtime())?;
        let seconds = i64::try_from(seconds).unwrap_or(0);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        Ok(Self {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            mode: Mode::from_raw_mode(header.mode()? & 0o7777),
            times: Timestamps { last_access: time, last_modification: time },
        })
    }
}

/// A blank number is zero, as other tools read it.
fn number(raw: &[u8], read: io::Result<u64>) -> io::Result<u64> {
    if raw.iter().all(|b| matches!(b, 0 | b' ')) { Ok(0) } else { read }
}

/// The directory being filled.
struct Target {
    root: OwnedFd,
    /// The directory of the entry before: archives list neighbours together.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Times of directories, set at the end: every new file in one changes them.
    directories: Vec<(Vec<u8>, Timestamps)>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Target {
    fn open(dir: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(dir, DIRECTORY, Mode::empty())?;
        Ok(Self { root, last: None, directories: Vec::new() })
    }

    /// Opens a directory inside the root, whatever links lead there.
    fn resolve(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        if path.is_empty() {
            return rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty());
        }
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, OsStr::from_bytes(path), DIRECTORY, Mode::empty(), inside)
    }

    /// The directory for an entry; missing parents are made, as archives may leave them out.
    fn parent(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            let fd = match self.resolve(path) {
                Err(Errno::NOENT) => self.make_parents(path)?,
                other => other?,
            };
            self.last = Some((path.to_vec(), fd));
        }
        let last = self.last.as_ref().map(|(_, fd)| fd);
        last.ok_or_else(|| bad("no parent directory".into()))
    }

    fn make_parents(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut fd = self.resolve(b"")?;
        let mut end = 0;
        for part in path.split(|b| *b == b'/') {
            end += part.len();
            fd = match self.resolve(&path[..end]) {
                Err(Errno::NOENT) => {
                    let mode = Mode::from_raw_mode(0o755);
                    rustix::fs::mkdirat(&fd, OsStr::from_bytes(part), mode)?;
                    self.resolve(&path[..end])?
                }
                other => other?,
            };
            end += 1;
        }
        Ok(fd)
    }

    fn add(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = entry.path_bytes().into_owned();
        let Place { parent, name } = place(&path)?;
        let attributes = attributes(entry)?;
        let meta = Meta::of(entry.header())?;
        let Some(name) = name else {
            let root = self.resolve(b"")?;
            self.directories.push((Vec::new(), meta.times.clone()));
            return finish(&root, &meta, &attributes);
        };
        if kind.is_dir() {
            let mut whole = parent.clone();
            if !whole.is_empty() {
                whole.push(b'/');
            }
            whole.extend_from_slice(&name);
            self.directories.push((whole, meta.times.clone()));
        }
        if kind == EntryType::Link {
            return self.link(entry, &parent, &name);
        }
        let parent = self.parent(&parent)?;
        if name.starts_with(WHITEOUT) {
            return whiteout(parent, &name);
        }
        let name = OsStr::from_bytes(&name);
        match kind {
            EntryType::Directory => {
                let fd = make_directory(parent, name)?;
                finish(&fd, &meta, &attributes)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                make_room(parent, name)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(
                    parent,
                    name,
                    flags | OFlags::NOFOLLOW,
                    Mode::from_raw_mode(0o600),
                )?;
                let mut file = File::from(fd);
                io::copy(entry, &mut file)?;
                finish(&file, &meta, &attributes)?;
                Ok(rustix::fs::futimens(&file, &meta.times)?)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                make_room(parent, name)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name)?;
                finish_nofollow(parent, name, &meta)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                make_room(parent, name)?;
                make_node(parent, name, entry.header(), &meta)?;
                finish_nofollow(parent, name, &meta)
            }
            other => Err(bad(format!("{name:?} has unsupported type {other:?}"))),
        }
    }

    fn link(&mut self, entry: &Entry<'_, impl Read>, parent: &[u8], name: &[u8]) -> io::Result<()> {
        let target = place(&entry.link_name_bytes().unwrap_or_default())?;
        let target_name = target.name.ok_or_else(|| bad("hard link to the root".into()))?;
        let from = self.resolve(&target.parent)?;
        let parent = self.parent(parent)?;
        let (target_name, name) = (OsStr::from_bytes(&target_name), OsStr::from_bytes(name));
        make_room(parent, name)?;
        rustix::fs::linkat(&from, target_name, parent, name, AtFlags::empty())
            .map_err(|e| bad(format!("hard link {name:?} to {target_name:?}: {e}")))
    }

    fn finish(&self) -> io::Result<()> {
        for (path, times) in &self.directories {
            // Replaced by something else later in the same layer: nothing to set.
            if let Ok(fd) = self.resolve(path) {
                rustix::fs::futimens(fd, times)?;
            }
        }
        Ok(())
    }
}

type Attributes = Vec<(String, Vec<u8>)>;

/// Extended attributes of the entry. `trusted.` steers overlayfs itself: never taken from images.
fn attributes(entry: &mut Entry<'_, impl Read>) -> io::Result<Attributes> {
    let mut found = Vec::new();
    let Some(extensions) = entry.pax_extensions()? else { return Ok(found) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|k| k.strip_prefix("SCHILY.xattr.")) else {
            continue;
        };
        if name.starts_with("security.capability") || name.starts_with("user.") {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

/// Owner first: changing it clears set-uid and capabilities.
fn finish(fd: impl AsFd, meta: &Meta, attributes: &Attributes) -> io::Result<()> {
    rustix::fs::fchown(&fd, Some(meta.uid), Some(meta.gid))?;
    rustix::fs::fchmod(&fd, meta.mode)?;
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(&fd, name.as_str(), value, XattrFlags::empty()) {
            // A filesystem without `user.` attributes loses them, as Docker does.
            Err(Errno::NOTSUP) if name.starts_with("user.") => {}
            other => other?,
        }
    }
    Ok(())
}

fn finish_nofollow(parent: &OwnedFd, name: &OsStr, meta: &Meta) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, Some(meta.uid), Some(meta.gid), flags)?;
    Ok(rustix::fs::utimensat(parent, name, &meta.times, flags)?)
}

fn kind_of(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<(FileType, u64)>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), stat.st_rdev))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Removes what has this name already: a later entry wins.
fn make_room(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match kind_of(parent, name)? {
        None => Ok(()),
        Some((FileType::Directory, _)) => {
            // No slash in the name, and the descriptor fixes the directory: nothing else is hit.
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(parent));
            std::fs::remove_dir_all(Path::new(&path).join(name))
        }
        Some(_) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
    }
}

fn make_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let known = kind_of(parent, name)?;
    let hides_lower = matches!(known, Some((FileType::CharacterDevice, 0)));
    if !matches!(known, Some((FileType::Directory, _))) {
        make_room(parent, name)?;
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    }
    let fd = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    if hides_lower {
        set_opaque(&fd)?;
    }
    Ok(fd)
}

fn set_opaque(fd: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(fd, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())?)
}

fn make_node(parent: &OwnedFd, name: &OsStr, header: &tar::Header, meta: &Meta) -> io::Result<()> {
    let kind = match header.entry_type() {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let major = header.device_major()?.unwrap_or(0);
    let minor = header.device_minor()?.unwrap_or(0);
    let device = if kind == FileType::Fifo { 0 } else { rustix::fs::makedev(major, minor) };
    rustix::fs::mknodat(parent, name, kind, meta.mode, device)?;
    // mknod obeys the umask.
    Ok(rustix::fs::chmodat(parent, name, meta.mode, AtFlags::empty())?)
}

/// `.wh.NAME` hides NAME of the layers below; `.wh..wh..opq` hides all of them in this directory.
fn whiteout(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    if name == OPAQUE {
        return set_opaque(parent);
    }
    let hidden = &name[WHITEOUT.len()..];
    if hidden.starts_with(WHITEOUT) {
        // Book-keeping of a filesystem that is no longer used.
        return Ok(());
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(bad(format!("whiteout {:?} names nothing", String::from_utf8_lossy(name))));
    }
    let hidden = OsStr::from_bytes(hidden);
    match kind_of(parent, hidden)? {
        None => {
            let none = Mode::empty();
            Ok(rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, none, 0)?)
        }
        // The layer has it itself: only what is below is hidden.
        Some((FileType::Directory, _)) => {
            let flags = DIRECTORY | OFlags::NOFOLLOW;
            set_opaque(&rustix::fs::openat(parent, hidden, flags, Mode::empty())?)
        }
        Some(_) => Ok(()),
    }
}
