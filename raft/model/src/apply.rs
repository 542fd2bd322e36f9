//! The one function that changes the state. Dispatch only; the rules stand in `apply/`.

use crate::command::{Entry, Response};
use crate::error::Error;
use crate::ids::Index;
use crate::state::State;

/// Applies the log's entry at `index`. On an error nothing but the applied index and the time of
/// the newest entry has changed.
pub fn apply(state: &mut State, index: Index, entry: &Entry) -> Result<Response, Error> {
    state.advance(index, entry.at);
    Err(Error::refused("not written yet"))
}

impl State {
    /// Counts an entry that carries no command (a blank one, a membership change).
    pub fn skip(&mut self, index: Index) {
        self.advance(index, crate::time::Time(0));
    }
}
