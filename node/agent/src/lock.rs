//! One agent per data directory: two would fight over every container.

use crate::Error;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::Path;

/// Held for as long as the agent runs.
pub type Lock = Flock<File>;

/// Makes the directory if need be and locks it for as long as the answer lives. The kernel frees
/// the lock with the process, however that ends.
///
/// # Errors
/// `Locked` when another agent has it, `DataDir` when the disk refuses.
pub fn take(dir: &Path) -> Result<Lock, Error> {
    let at = |source| Error::DataDir { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(at)?;
    let file = File::create(dir.join("agent.lock")).map_err(at)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Error::Locked { path: dir.to_owned() },
        errno => at(errno.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_in_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path()).unwrap();
        let told = take(dir.path()).err().unwrap().to_string();
        assert!(told.contains("another agent runs in"), "{told}");
        drop(first);
        assert!(take(dir.path()).is_ok());
    }
}
