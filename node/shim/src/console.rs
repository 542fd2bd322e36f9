//! The terminal of a container: the OCI runtime makes it inside and hands its other end over
//! through a socket.
//!
//! Nobody sits at it: what the container prints goes to the log, and nothing is typed.

use nix::cmsg_space;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::stat::Mode;
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// How long the runtime may take from connecting to sending.
const SENT_WITHIN_SECONDS: i64 = 5;
/// With the terminal comes its name, which says nothing to us.
const NAME_BYTES_MAX: usize = 4096;

pub struct Console {
    listener: UnixListener,
    /// Where the runtime finds it: the directory's own name may be too long for a socket's.
    socket: PathBuf,
    _dir: OwnedFd,
}

impl Console {
    pub fn listen(dir: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let held = open(dir, flags, Mode::empty())?;
        let fd = held.as_raw_fd();
        let socket = PathBuf::from(format!("/proc/{}/fd/{fd}/console", std::process::id()));
        match fs::remove_file(&socket) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, socket, _dir: held })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Takes the terminal from the runtime, which has connected.
    pub fn receive(&self) -> io::Result<OwnedFd> {
        let (runtime, _) = self.listener.accept()?;
        runtime.set_nonblocking(false)?;
        setsockopt(&runtime, ReceiveTimeout, &TimeVal::seconds(SENT_WITHIN_SECONDS))?;
        let mut name = [0; NAME_BYTES_MAX];
        let mut parts = [IoSliceMut::new(&mut name)];
        let mut space = cmsg_space!([RawFd; 1]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(runtime.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let received = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let fd = received.ok_or_else(|| io::Error::other("the runtime sent no terminal"))?;
        #[allow(unsafe_code)]
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let terminal = unsafe { OwnedFd::from_raw_fd(fd) };
        let _ = fs::remove_file(&self.socket);
        plain_line_ends(&terminal)?;
        Ok(terminal)
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Lines end as in a file: whoever reads the log has a terminal of his own that adds returns.
fn plain_line_ends(terminal: &OwnedFd) -> nix::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(terminal, SetArg::TCSANOW, &settings)
}
