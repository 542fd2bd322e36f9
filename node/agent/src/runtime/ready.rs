//! Descriptors that tokio waits on: the one place where that promise is made.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor that `inner` owns. Must be called inside a tokio runtime.
#[allow(unsafe_code)]
pub fn register<T: AsRawFd + Into<OwnedFd>>(
    inner: T,
    interest: Interest,
) -> io::Result<AsyncFd<T>> {
    // SAFETY: a type that converts into `OwnedFd` owns its descriptor, keeps it open and the same
    // for as long as it lives, and `AsyncFd` keeps it until after it has deregistered.
    let registered = unsafe { AsyncFd::register_with_interest(inner, interest) };
    registered.map_err(|e| io::Error::other(e.to_string()))
}
