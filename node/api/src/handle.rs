//! One method of the dispatcher per rpc, one file per noun.
//!
//! A write is: make the command (checked by `muster-proto`), commit it, show the row as it is then.
//! A read is: choose a state, call the pure function of `read`.

mod cluster;
mod definition;
mod instance;
mod live;
mod managers;
mod policies;
mod run;
mod service;
mod tags;
mod task;
mod users;
