//! Fluentd's forward protocol, version 1, in its Forward Mode: one message with the entries of a
//! parcel, and what it is acknowledged by.

use super::{Encoder, Parcel, is_partial, text};
use crate::logs::Frame;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmp::decode::{read_map_len, read_str_from_slice};
use rmp::encode::{ByteBuf, write_array_len, write_ext_meta, write_map_len, write_str, write_uint};

/// The extension type of times with nanoseconds.
const EVENT_TIME: i8 = 0;

pub(super) fn encode(
    of: &Encoder,
    frames: &[Frame],
    acknowledged: bool,
    sub_second: bool,
) -> Parcel {
    let chunk = acknowledged.then(|| STANDARD.encode(rand::random::<[u8; 16]>()));
    let mut out = Message(ByteBuf::new());
    out.array(if chunk.is_some() { 3 } else { 2 });
    out.text(&of.tag);
    out.array(frames.len());
    for frame in frames {
        out.array(2);
        out.time(frame.at, sub_second);
        out.record(of, frame);
    }
    if let Some(chunk) = &chunk {
        out.map(1);
        out.pair("chunk", chunk);
    }
    Parcel { messages: vec![out.0.into_vec()], chunk }
}

/// MessagePack in memory, which has room.
struct Message(ByteBuf);

impl Message {
    fn array(&mut self, length: usize) {
        let Ok(_) = write_array_len(&mut self.0, length as u32);
    }

    fn map(&mut self, length: usize) {
        let Ok(_) = write_map_len(&mut self.0, length as u32);
    }

    fn text(&mut self, text: &str) {
        let Ok(()) = write_str(&mut self.0, text);
    }

    fn pair(&mut self, name: &str, value: &str) {
        self.text(name);
        self.text(value);
    }

    fn time(&mut self, at: u64, sub_second: bool) {
        let (seconds, nanos) = (at / 1000, (at % 1000 * 1_000_000) as u32);
        if !sub_second {
            let Ok(_) = write_uint(&mut self.0, seconds);
            return;
        }
        let Ok(_) = write_ext_meta(&mut self.0, 8, EVENT_TIME);
        let bytes = self.0.as_mut_vec();
        bytes.extend_from_slice(&(seconds as u32).to_be_bytes());
        bytes.extend_from_slice(&nanos.to_be_bytes());
    }

    fn record(&mut self, of: &Encoder, frame: &Frame) {
        let own = ["container_id", "container_name", "source", "log", "partial_message"];
        let fields = of.subject.fields.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        let fields: Vec<_> = fields.collect();
        let partial = is_partial(frame);
        self.map(4 + usize::from(partial) + fields.len());
        self.pair("container_id", &of.subject.id);
        self.pair("container_name", &of.subject.id);
        self.pair("source", &frame.stream);
        self.pair("log", text(frame));
        if partial {
            self.pair("partial_message", "true");
        }
        for (name, value) in fields {
            self.pair(name, value);
        }
    }
}

/// What a receiver's answer acknowledges; none as long as there is more to come.
pub fn acknowledged(answer: &[u8]) -> Option<String> {
    let mut rest = answer;
    if read_map_len(&mut rest).ok()? != 1 {
        return None;
    }
    let (name, rest) = read_str_from_slice(rest).ok()?;
    let (chunk, _) = read_str_from_slice(rest).ok()?;
    (name == "ack").then(|| chunk.to_owned())
}
