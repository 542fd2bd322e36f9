//! Lines as their receivers want them: syslog, the journal's native protocol, fluentd's forward
//! protocol, GELF. Pure but for the ids of parcels.
//!
//! Fields have the names that Docker's drivers give them, so that what reads those reads these.

mod fluentd;
mod gelf;
mod journald;
mod syslog;

pub use fluentd::acknowledged;

use super::subject::Subject;
use crate::logs::Frame;
use muster_model::log_driver::{Forwarding, Receiver};

/// What is sent at once. A message is a datagram, or a piece of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    pub messages: Vec<Vec<u8>>,
    /// By what the receiver acknowledges it, if it is asked to.
    pub chunk: Option<String>,
}

pub struct Encoder {
    forwarding: Forwarding,
    subject: Subject,
    tag: String,
    /// The machine's name.
    host: String,
}

impl Encoder {
    pub fn new(forwarding: Forwarding, subject: Subject, host: String) -> Self {
        Self { tag: subject.tag(&forwarding.tag), forwarding, subject, host }
    }

    pub fn encode(&self, frames: &[Frame]) -> Parcel {
        let each = |message: &dyn Fn(&Frame) -> Vec<Vec<u8>>| {
            let messages = frames.iter().flat_map(message).collect();
            Parcel { messages, chunk: None }
        };
        match &self.forwarding.receiver {
            Receiver::Syslog { to, facility, format } => {
                let line = syslog::Line { facility: *facility, format: *format, of: self };
                each(&|frame| vec![line.encode(frame, to)])
            }
            Receiver::Journald => each(&|frame| vec![journald::encode(self, frame)]),
            Receiver::Fluentd { acknowledged, sub_second, .. } => {
                fluentd::encode(self, frames, *acknowledged, *sub_second)
            }
            Receiver::Gelf { to, compression } => {
                each(&|frame| gelf::encode(self, frame, to, *compression))
            }
        }
    }
}

/// RFC 5424, table 2: Docker's choice for each stream.
fn severity(frame: &Frame) -> u8 {
    match frame.stream.as_str() {
        "stdout" => 6,
        _ => 3,
    }
}

fn text(frame: &Frame) -> &str {
    frame.text.strip_suffix('\n').unwrap_or(&frame.text)
}

/// Whether the line goes on in the next frame.
fn is_partial(frame: &Frame) -> bool {
    !frame.text.ends_with('\n')
}

#[cfg(test)]
mod tests;
