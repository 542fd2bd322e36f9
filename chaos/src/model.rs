//! The protocols on which the promises rest, as models small enough to look at every order of
//! events: who may act (`takeover`), what agents are told and tell (`assign`), and how many tasks
//! may go (`bounds`).
//!
//! A model keeps the shape of the code it names and nothing else; whether the code is that shape is
//! for the simulator and the tests to say. Each guard of a model is a switch. Invariant: with all
//! of them on every property holds in every state within the bounds, and with any one of them off
//! the checker finds the bug that it prevents. A guard without such a bug is not needed, or the
//! model does not show why.

pub mod assign;
pub mod bounds;
pub mod takeover;

use stateright::{Checker, Model};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// One rule of the code that can be left out of a model.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    pub name: &'static str,
    /// Where the code has it.
    pub code: &'static str,
    /// The promise (P1 to P11) and what a user loses without it.
    pub loses: &'static str,
}

/// How far a model is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For `cargo test`: seconds in a debug build.
    Small,
    /// For `cargo xtask model`.
    Full,
}

/// A model whose guards can be left out.
pub trait Guarded: Model {
    const NAME: &'static str;
    const GUARDS: &'static [Guard];

    /// `without` is the position of the guard to leave out.
    fn new(size: Size, without: Option<usize>) -> Self;
}

/// What a run of the checker came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub states: usize,
    pub depth: usize,
    pub took: Duration,
    /// The property that broke and the shortest way there, one line a step.
    pub broken: Option<(&'static str, Vec<String>)>,
    /// Things that ought to be possible and never happened: then nothing was proved.
    pub never: Vec<&'static str>,
}

/// Looks at every state, breadth first. A way to a bug is a shortest one: the checker goes on for
/// some states after it found one, so what is shorter is looked for again.
pub fn check<M>(model: M) -> Verdict
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let began = Instant::now();
    let mut verdict = search(model.clone(), None);
    while let Some((_, path)) = &verdict.broken {
        // The first state counts as a depth of one, and the greatest depth is not looked at.
        let shorter = search(model.clone(), Some(path.len() + 1));
        if shorter.broken.is_none() {
            break;
        }
        verdict.broken = shorter.broken;
    }
    verdict.took = began.elapsed();
    verdict
}

fn search<M>(model: M, depth_max: Option<usize>) -> Verdict
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let began = Instant::now();
    let builder = model.checker().finish_when(stateright::HasDiscoveries::AnyFailures);
    let checker = builder.target_max_depth(depth_max.unwrap_or(0)).spawn_bfs().join();
    let mut broken: Option<(&'static str, Vec<String>)> = None;
    let mut found = checker.discoveries();
    let mut never = Vec::new();
    let model = checker.model();
    for property in model.properties() {
        let path = found.remove(property.name);
        match (property.expectation.discovery_is_failure(), path) {
            (true, Some(path)) => {
                // Up to the first state that breaks it.
                let steps = path.into_vec();
                let broke = steps.iter().position(|(state, _)| !(property.condition)(model, state));
                let steps = steps.iter().take(broke.unwrap_or(steps.len()));
                let lines = steps.filter_map(|(_, step)| Some(model.format_action(step.as_ref()?)));
                let lines: Vec<String> = lines.collect();
                if broken.as_ref().is_none_or(|(_, shortest)| lines.len() < shortest.len()) {
                    broken = Some((property.name, lines));
                }
            }
            (false, None) => never.push(property.name),
            (true, None) | (false, Some(_)) => {}
        }
    }
    Verdict {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        broken,
        never,
    }
}
