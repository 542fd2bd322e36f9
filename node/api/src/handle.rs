//! One method of the dispatcher per rpc, one file per noun.
//!
//! A write is: make the command (checked by `muster-proto`), commit it, show the row as it is then.
//! A read is: choose a state, call the pure function of `read`.

mod access_key;
mod account;
mod agent;
mod alarm;
mod attribute;
mod capacity;
mod cluster;
mod config;
mod definition;
mod deployment;
mod instance;
mod job;
mod live;
mod managers;
mod plan;
mod policies;
mod protection;
mod run;
mod schedule;
mod secret;
mod service;
mod start;
mod tags;
mod task;
mod task_set;
mod users;
