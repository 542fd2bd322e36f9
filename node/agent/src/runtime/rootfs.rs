//! A container's root: the image's layers with a writable one on top, and the few files of /etc
//! that the instance provides.

use crate::image::Image;
use muster_model::spec::{ContainerDefinition, Link, NetworkMode};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Directories of one container beside its bundle.
const PARTS: [&str; 3] = ["upper", "work", "rootfs"];

/// Mounts the image at `dir/rootfs`. Everything the container writes is in `dir/upper`.
///
/// Layers are named relative to their directory, because a mount call takes 4 KiB of text. The
/// working directory belongs to the process, so this runs in a thread with one of its own.
pub fn mount_image(dir: &Path, layers_dir: &Path, image: &Image) -> io::Result<()> {
    for part in PARTS {
        fs::create_dir_all(dir.join(part))?;
    }
    if image.layers.is_empty() {
        return Err(io::Error::other("the image has no layers"));
    }
    // The merged root shows the owner and mode of the uppermost directory.
    let top = image.layers.last().map(|key| layers_dir.join(key).join("fs"));
    if let Some(meta) = top.map(fs::metadata).transpose()? {
        fs::set_permissions(dir.join("upper"), fs::Permissions::from_mode(meta.mode() & 0o7777))?;
        chown(dir.join("upper"), Some(meta.uid()), Some(meta.gid()))?;
    }
    let lower: Vec<String> = image.layers.iter().rev().map(|key| format!("{key}/fs")).collect();
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        text_of(&upper)?,
        text_of(&work)?
    );
    let (layers_dir, target) = (layers_dir.to_owned(), dir.join("rootfs"));
    let thread = std::thread::Builder::new().name("mount".into()).spawn(move || {
        unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chdir(&layers_dir)?;
        let overlay = |options: &str| {
            let kind = Some("overlay");
            mount(kind, &target, kind, MsFlags::empty(), Some(options))
        };
        // Nobody keeps a container's own files over a power cut, so they need no syncing.
        match overlay(&format!("{options},volatile")) {
            Err(Errno::EINVAL) => overlay(&options),
            other => other,
        }
    })?;
    match thread.join() {
        Ok(mounted) => Ok(mounted?),
        Err(_) => Err(io::Error::other("the mount thread died")),
    }
}

/// A colon or a comma in the path would be read as the end of the option.
fn text_of(path: &Path) -> io::Result<&str> {
    let text = path.to_str().filter(|t| !t.contains([',', ':']));
    text.ok_or_else(|| {
        io::Error::other(format!("{} must not contain a comma or a colon", path.display()))
    })
}

/// Unmounts the root; not being mounted is fine.
pub fn unmount(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Mount points at or below `dir`, the innermost first. Those of this thread's namespace.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let info = fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
    let points = info.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4));
    let mut found: Vec<PathBuf> =
        points.map(unescaped).filter(|point| point.starts_with(dir)).collect();
    found.sort();
    found.reverse();
    found
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digits = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let code = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// What the files of /etc are made from.
pub struct Etc<'a> {
    pub container: &'a ContainerDefinition,
    pub mode: NetworkMode,
    pub address: Option<Ipv4Addr>,
    pub hostname: &'a str,
}

/// Writes `hosts`, `hostname` and `resolv.conf` into `dir`.
pub fn write_etc(dir: &Path, etc: &Etc<'_>) -> io::Result<()> {
    let of_host = |name| fs::read_to_string(name).unwrap_or_default();
    fs::write(dir.join("hosts"), hosts(etc, &of_host("/etc/hosts")))?;
    fs::write(dir.join("hostname"), format!("{}\n", etc.hostname))?;
    fs::write(dir.join("resolv.conf"), resolv_conf(etc, &of_host("/etc/resolv.conf")))
}

/// What a linked container is called, as Docker has it: by its alias first.
pub fn names_of(link: &Link, hostname: Option<String>) -> String {
    let mut names = vec![link.alias.clone()];
    for name in hostname.into_iter().chain([link.container.clone()]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" ")
}

/// Adds lines to a container's `hosts`, those that are not there. The file is mounted into the
/// container, so it is written in place.
pub fn add_hosts(dir: &Path, lines: &[(Ipv4Addr, String)]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = dir.join("hosts");
    let mut text = fs::read_to_string(&path)?;
    for (address, names) in lines {
        let line = format!("{address}\t{names}");
        if !text.lines().any(|there| there == line) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    fs::write(path, text)
}

fn hosts(etc: &Etc<'_>, of_host: &str) -> String {
    let mut text = match etc.mode {
        NetworkMode::Host => of_host.to_owned(),
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if let Some(address) = etc.address {
        let _ = writeln!(text, "{address}\t{}", etc.hostname);
    }
    for (name, address) in &etc.container.extra_hosts {
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// The host's servers, unless the definition names its own. A server on the host's loopback cannot
/// be reached from another network, so it is left out there.
fn resolv_conf(etc: &Etc<'_>, of_host: &str) -> String {
    let mut text = String::new();
    for server in &etc.container.dns_servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let own_servers = !text.is_empty();
    let own_search = !etc.container.dns_search_domains.is_empty();
    if own_search {
        let _ = writeln!(text, "search {}", etc.container.dns_search_domains.join(" "));
    }
    for line in of_host.lines() {
        let server = line.strip_prefix("nameserver").map(str::trim);
        let local = server.is_some_and(|s| s.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
        let unreachable = local && etc.mode != NetworkMode::Host;
        let searches = line.starts_with("search") || line.starts_with("domain");
        if unreachable || (server.is_some() && own_servers) || (searches && own_search) {
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc(container: &ContainerDefinition, mode: NetworkMode) -> Etc<'_> {
        Etc { container, mode, address: Some(Ipv4Addr::new(10, 0, 0, 2)), hostname: "h" }
    }

    #[test]
    fn paths_of_mounts_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescaped(br"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescaped(br"/odd\9"), Path::new(r"/odd\9"));
        assert!(mounts_below(Path::new("/")).contains(&PathBuf::from("/proc")));
    }

    #[test]
    fn hosts_name_the_container_and_the_extra_ones() {
        let mut container = ContainerDefinition::default();
        container.extra_hosts.insert("db".into(), "10.1.1.1".into());
        let text = hosts(&etc(&container, NetworkMode::Bridge), "192.0.2.1 outside");
        assert!(text.contains("10.0.0.2\th\n") && text.contains("10.1.1.1\tdb\n"), "{text}");
        assert!(text.starts_with("127.0.0.1\tlocalhost") && !text.contains("outside"));
        let text = hosts(&etc(&container, NetworkMode::Host), "192.0.2.1 outside");
        assert!(text.starts_with("192.0.2.1 outside\n10.0.0.2"), "{text}");
    }

    #[test]
    fn name_servers_on_the_hosts_loopback_are_left_out() {
        let host = "search example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.9\n";
        let mut container = ContainerDefinition::default();
        let of = |c: &ContainerDefinition, mode| resolv_conf(&etc(c, mode), host);
        assert_eq!(
            of(&container, NetworkMode::Bridge),
            "search example.org\nnameserver 192.0.2.9\n"
        );
        assert_eq!(of(&container, NetworkMode::Host), host);
        container.dns_servers.push("1.1.1.1".into());
        assert_eq!(of(&container, NetworkMode::Bridge), "nameserver 1.1.1.1\nsearch example.org\n");
        container.dns_search_domains = vec!["a.test".into(), "b.test".into()];
        assert_eq!(of(&container, NetworkMode::Host), "nameserver 1.1.1.1\nsearch a.test b.test\n");
    }
}
