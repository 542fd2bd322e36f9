//! The journal's native protocol (systemd, docs/JOURNAL_NATIVE_PROTOCOL.md): a datagram of fields.

use super::{Encoder, is_partial, severity, text};
use crate::logs::Frame;

pub(super) fn encode(of: &Encoder, frame: &Frame) -> Vec<u8> {
    let mut entry = Vec::new();
    let priority = severity(frame).to_string();
    let time = crate::metadata::shown(muster_model::Time(frame.at));
    let own = [
        ("MESSAGE", text(frame)),
        ("PRIORITY", &priority),
        ("SYSLOG_IDENTIFIER", &of.tag),
        ("SYSLOG_TIMESTAMP", &time),
        ("CONTAINER_ID", &of.subject.short_id),
        ("CONTAINER_ID_FULL", &of.subject.id),
        ("CONTAINER_NAME", &of.subject.id),
        ("CONTAINER_TAG", &of.tag),
        ("IMAGE_NAME", &of.subject.image_name),
    ];
    for (name, value) in own {
        field(&mut entry, name, value);
    }
    if is_partial(frame) {
        field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", "true");
    }
    for (name, value) in &of.subject.fields {
        let name = field_name(name);
        if !own.iter().any(|(own, _)| *own == name) {
            field(&mut entry, &name, value);
        }
    }
    entry
}

fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    match value.contains('\n') {
        false => entry.push(b'='),
        true => {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        }
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// As Docker: capitals, digits and `_`, and none of the first two at the beginning that the journal
/// would drop.
fn field_name(name: &str) -> String {
    let shown = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    let name: String = name.chars().map(shown).collect();
    name.trim_start_matches(|c: char| !c.is_ascii_uppercase()).to_owned()
}
