//! Who a container runs as: Docker's `user[:group]` against the image's own passwd and group.
//!
//! The files are the image's, so they are opened inside its root only and read up to a bound;
//! lines that make no sense are passed over, as the C library does.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Larger files are read up to here.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Linux allows 65536; no image needs more than this.
const GROUPS_MAX: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups that list the user by name.
    pub groups: Vec<u32>,
}

/// Resolves `text` (from the definition or the image; empty is root) in the image at `rootfs`.
pub fn resolve(text: &str, rootfs: &Path) -> Result<User, String> {
    let read = |name: &str| read_inside(rootfs, name).unwrap_or_default();
    resolve_in(text, &read("etc/passwd"), &read("etc/group"))
}

/// A text file inside the image, wherever links lead: never outside, never a device or a pipe.
pub fn read_inside(rootfs: &Path, name: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let root = rustix::fs::open(rootfs, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = rustix::fs::openat2(root, name, flags, Mode::empty(), inside).ok()?;
    let file = File::from(fd);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

fn passwd_line(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Passwd { name, uid, gid })
}

fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

/// As `resolve`, with the texts of the two files.
pub fn resolve_in(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let mut known = passwd.lines().filter_map(passwd_line);
    let (name, uid, own_gid) = match user.parse::<u32>() {
        Ok(uid) => match known.find(|p| p.uid == uid) {
            Some(p) => (p.name, uid, p.gid),
            None => ("", uid, 0),
        },
        Err(_) => {
            let p = known.find(|p| p.name == user).ok_or_else(|| {
                format!(
                    "user {user:?} is not in the image's /etc/passwd; allowed are a name from \
                         there or a number"
                )
            })?;
            (p.name, p.uid, p.gid)
        }
    };
    let groups = || group.lines().filter_map(group_line);
    let gid = match wanted_group {
        None => own_gid,
        Some(text) => match text.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => {
                let found = groups().find(|(name, ..)| *name == text);
                found.map(|(_, gid, _)| gid).ok_or_else(|| {
                    format!(
                        "group {text:?} is not in the image's /etc/group; allowed are a name \
                             from there or a number"
                    )
                })?
            }
        },
    };
    // As Docker does: an explicit group stands alone.
    let member = |members: &str| !name.is_empty() && members.split(',').any(|m| m.trim() == name);
    let supplementary = groups().filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid);
    let groups = match wanted_group {
        None => supplementary.take(GROUPS_MAX).collect(),
        Some(_) => Vec::new(),
    };
    Ok(User { uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:1:1::\nweb:x:33:34::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:50:other,web\n";

    fn who(text: &str) -> (u32, u32, Vec<u32>) {
        let user = resolve_in(text, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups)
    }

    #[test]
    fn names_and_numbers_are_resolved_as_docker_does() {
        assert_eq!(who(""), (0, 0, vec![]));
        assert_eq!(who("web"), (33, 34, vec![50]));
        assert_eq!(who("33"), (33, 34, vec![50]));
        assert_eq!(who("1000"), (1000, 0, vec![]));
        assert_eq!(who("web:log"), (33, 50, vec![]));
        assert_eq!(who("1000:1001"), (1000, 1001, vec![]));
    }

    #[test]
    fn unknown_names_say_where_they_were_looked_for() {
        assert!(resolve_in("nobody", PASSWD, GROUP).unwrap_err().contains("/etc/passwd"));
        assert!(resolve_in("web:nogroup", PASSWD, GROUP).unwrap_err().contains("/etc/group"));
        assert!(resolve_in("web", "", "").is_err());
    }

    #[test]
    fn a_link_out_of_the_image_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("etc/passwd")).unwrap();
        assert_eq!(read_inside(dir.path(), "etc/passwd"), None);
        std::fs::write(dir.path().join("real"), "x").unwrap();
        std::os::unix::fs::symlink("/real", dir.path().join("etc/group")).unwrap();
        assert_eq!(read_inside(dir.path(), "etc/group").as_deref(), Some("x"));
    }
}
