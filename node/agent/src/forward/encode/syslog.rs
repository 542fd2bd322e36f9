//! RFC 5424, RFC 3164, and the latter without a host, as a machine's own socket takes it. Times are
//! UTC.

use super::{Encoder, severity, text};
use crate::logs::Frame;
use crate::metadata::shown;
use muster_model::Time;
use muster_model::log_driver::{Address, SyslogFormat};

/// RFC 5424, section 6: characters of APP-NAME and MSGID.
const APP_NAME_MAX: usize = 48;
const MESSAGE_ID_MAX: usize = 32;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(super) struct Line<'a> {
    pub(super) facility: u8,
    pub(super) format: SyslogFormat,
    pub(super) of: &'a Encoder,
}

impl Line<'_> {
    pub(super) fn encode(&self, frame: &Frame, to: &Address) -> Vec<u8> {
        let priority = self.facility * 8 + severity(frame);
        let (tag, host, pid) = (&self.of.tag, &self.of.host, std::process::id());
        let content = text(frame);
        let tag = printable(tag, tag.len());
        let mut line = match self.format {
            SyslogFormat::Local => {
                format!("<{priority}>{} {tag}[{pid}]: {content}", stamp(frame.at))
            }
            SyslogFormat::Rfc3164 => {
                format!("<{priority}>{} {host} {tag}[{pid}]: {content}", stamp(frame.at))
            }
            SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro => {
                let (name, id) = (printable(&tag, APP_NAME_MAX), printable(&tag, MESSAGE_ID_MAX));
                let at = self.time(frame.at);
                format!("<{priority}>1 {at} {host} {name} {pid} {id} - {content}")
            }
        };
        // As Docker: lines of a stream end, and are not counted.
        if matches!(to, Address::Tcp(_) | Address::Unix(_)) {
            line.push('\n');
        }
        line.into_bytes()
    }

    fn time(&self, at: u64) -> String {
        let (seconds, millis) = (seconds(at), at % 1000);
        match self.format {
            SyslogFormat::Rfc5424Micro => format!("{seconds}.{millis:03}000Z"),
            _ => format!("{seconds}.{millis:03}Z"),
        }
    }
}

/// `2026-11-22T21:07:00`
fn seconds(at: u64) -> String {
    shown(Time(at)).chars().take(19).collect()
}

/// `Nov 22 21:07:00`, the day in two columns.
fn stamp(at: u64) -> String {
    let text = seconds(at);
    let (date, clock) = text.split_once('T').unwrap_or_default();
    let mut parts = date.split('-').skip(1).map(|part| part.parse::<usize>().unwrap_or_default());
    let (month, day) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let month = MONTHS.get(month.wrapping_sub(1)).unwrap_or(&MONTHS[0]);
    format!("{month} {day:>2} {clock}")
}

/// What a header may have between its blanks.
fn printable(text: &str, chars_max: usize) -> String {
    let shown = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    text.chars().take(chars_max).map(shown).collect()
}
