//! The user's terminal while a command in a container has it.
//!
//! Raw: every key goes to the command, Ctrl-C too, which interrupts it and not us; and what the
//! command writes is shown as it is. It does not know what is sent where. Invariant: however the
//! session ends, the terminal is left as it was found.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal};

/// Whether standard input is one.
pub fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// Rows and columns; zeros where there is none.
pub fn size() -> (u16, u16) {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    size.map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// The terminal, raw until this is dropped.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// # Errors
    /// Standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no care.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
