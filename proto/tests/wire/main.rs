//! The wire's tests: scripts of requests and their answers, JSON, errors, agents' messages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod client;
mod definitions;
mod deployments;
mod dispatch;
mod errors;
mod json;
mod names;
mod policies;
mod policy;
mod scripts;
mod targets;
mod world;
