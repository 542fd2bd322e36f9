//! A manager and agents in one process: the real brains, the real gRPC over loopback with mTLS, a
//! replica in memory and machines that only pretend to run containers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod agents;
mod enroll;
mod harness;
mod hooks;
mod hostile;
mod secrets;
mod task_roles;
