//! The two brains: what a leader and a worker decide. No clock, no IO, no tokio.

pub mod io;
pub mod leader;
pub mod worker;
