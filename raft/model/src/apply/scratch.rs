//! A plan in the making: a copy of the state on which each step is judged by the rules that `apply`
//! will judge it by, as one plan with the steps before it.
//!
//! It decides nothing itself. Invariant: the copy is the base with exactly the accepted steps
//! applied.

use super::bounds::Bounds;
use super::plan;
use crate::command::Step;
use crate::error::Error;
use crate::ids::Index;
use crate::state::State;
use crate::time::Time;

#[derive(Debug)]
pub struct Scratch {
    state: State,
    bounds: Bounds,
}

impl Scratch {
    /// As if the plan were the next entry of the log.
    pub fn new(base: &State, at: Time) -> Self {
        let mut state = base.clone();
        state.advance(Index(base.applied().0 + 1), at);
        Self { state, bounds: Bounds::default() }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// # Errors
    /// Why the step would be refused; the copy is what it was.
    pub fn push(&mut self, step: &Step) -> Result<(), Error> {
        plan::one(&mut self.state, &mut self.bounds, step)
    }
}
