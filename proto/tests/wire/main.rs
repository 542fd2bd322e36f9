//! The wire's tests: scripts of requests and their answers, JSON, errors, agents' messages.

mod definitions;
mod dispatch;
mod errors;
mod json;
mod policy;
mod scripts;
mod world;
