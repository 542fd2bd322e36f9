//! GELF 1.1: JSON; compressed and cut into chunks over UDP, ended by a zero over TCP.

use super::{Encoder, severity, text};
use crate::logs::Frame;
use flate2::Compression as Level;
use flate2::write::{GzEncoder, ZlibEncoder};
use muster_model::log_driver::{Address, Compression};
use serde_json::{Map, Value, json};
use std::io::Write;

/// As Docker: fits an Ethernet frame.
const DATAGRAM_BYTES_MAX: usize = 1420;
const CHUNK_HEADER_BYTES: usize = 12;
const CHUNK_MAGIC: [u8; 2] = [0x1e, 0x0f];
/// GELF: receivers drop what has more.
const CHUNKS_MAX: usize = 128;

/// Its messages. None for a line without text, which receivers refuse, and for one too long.
pub(super) fn encode(
    of: &Encoder,
    frame: &Frame,
    to: &Address,
    compression: Option<Compression>,
) -> Vec<Vec<u8>> {
    if text(frame).trim().is_empty() {
        return Vec::new();
    }
    let mut bytes = document(of, frame).to_string().into_bytes();
    if let Address::Tcp(_) = to {
        bytes.push(0);
        return vec![bytes];
    }
    let bytes = match compression {
        None => bytes,
        Some(compression) => compressed(bytes, compression),
    };
    if bytes.len() <= DATAGRAM_BYTES_MAX {
        return vec![bytes];
    }
    let chunks = bytes.chunks(DATAGRAM_BYTES_MAX - CHUNK_HEADER_BYTES);
    let (count, id) = (chunks.len(), rand::random::<[u8; 8]>());
    if count > CHUNKS_MAX {
        return Vec::new();
    }
    let chunk = |(n, chunk): (usize, &[u8])| {
        [&CHUNK_MAGIC[..], &id, &[n as u8, count as u8], chunk].concat()
    };
    chunks.enumerate().map(chunk).collect()
}

fn document(of: &Encoder, frame: &Frame) -> Value {
    let subject = &of.subject;
    let mut all = Map::new();
    let mut set = |name: &str, value: Value| all.insert(name.to_owned(), value);
    // First, so that none of them takes the place of what is always there. GELF forbids `_id`.
    for (name, value) in subject.fields.iter().filter(|(name, _)| *name != "id") {
        set(&format!("_{name}"), json!(value));
    }
    set("version", json!("1.1"));
    set("host", json!(of.host));
    set("short_message", json!(text(frame)));
    set("timestamp", json!(frame.at as f64 / 1000.0));
    set("level", json!(severity(frame)));
    set("_command", json!(subject.command));
    set("_container_id", json!(subject.id));
    set("_container_name", json!(subject.id));
    let created = crate::metadata::shown(muster_model::Time(subject.created_at));
    set("_created", json!(created));
    set("_image_id", json!(subject.image_id));
    set("_image_name", json!(subject.image_name));
    set("_tag", json!(of.tag));
    Value::Object(all)
}

/// Memory takes all of it; without that the receiver has it as it is.
fn compressed(bytes: Vec<u8>, compression: Compression) -> Vec<u8> {
    let small = match compression {
        Compression::Gzip(level) => {
            let mut encoder = GzEncoder::new(Vec::new(), Level::new(level));
            encoder.write_all(&bytes).and_then(|()| encoder.finish())
        }
        Compression::Zlib(level) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Level::new(level));
            encoder.write_all(&bytes).and_then(|()| encoder.finish())
        }
    };
    small.unwrap_or(bytes)
}
