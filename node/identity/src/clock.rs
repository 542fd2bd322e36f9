//! The time that certificates are judged by: the wall clock when this process first asked, plus
//! monotonic time since.
//!
//! A wall clock that jumps under a running process so neither refuses honest peers nor revives an
//! expired certificate. A clock that was wrong at the start stays wrong until a restart.

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<(SystemTime, Instant)> = OnceLock::new();

/// Never steps back within a process.
pub fn now() -> SystemTime {
    let (wall, started) = START.get_or_init(|| (SystemTime::now(), Instant::now()));
    wall.checked_add(started.elapsed()).unwrap_or(*wall)
}

/// [`now`], for rustls.
#[derive(Debug)]
pub struct ProcessClock;

impl TimeProvider for ProcessClock {
    fn current_time(&self) -> Option<UnixTime> {
        now().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}
