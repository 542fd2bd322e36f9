//! Real clusters on one machine, for tests that break them: hosts in network namespaces, real
//! processes, real disks, real containers.
//!
//! It drives `deploy/lib/lab` and the `muster` binary as an operator would, and knows nothing of
//! what is inside. Invariant: what a [`Cluster`] made is gone when it is dropped.

pub mod campaign;
pub mod cluster;
pub mod image;
pub mod lab;
pub mod local;
pub mod model;
pub mod observer;
pub mod python;
pub mod service;
pub mod sim;
pub mod wait;
