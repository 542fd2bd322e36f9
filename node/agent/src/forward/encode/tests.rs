//! What is sent, byte by byte or as a reader of the format takes it.

use super::*;
use flate2::read::{GzDecoder, ZlibDecoder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;

/// 2026-11-02T03:04:05.067Z
const AT: u64 = 1_793_588_645_067;

fn frame(stream: &str, text: &str) -> Frame {
    Frame { at: AT, stream: stream.into(), text: text.into() }
}

fn encoder(driver: &str, options: &[(&str, &str)]) -> Encoder {
    let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let forwarding = Forwarding::read(driver, &options).unwrap().unwrap();
    let subject = Subject {
        id: "t1-web".into(),
        short_id: "0123456789ab".into(),
        image_id: "sha256:feedfacecafebeef".into(),
        image_name: "app:1".into(),
        command: "/bin/app -v".into(),
        created_at: AT,
        fields: BTreeMap::from([("stage".into(), "a\nb".into()), ("id".into(), "7".into())]),
    };
    Encoder::new(forwarding, subject, "host1".into())
}

fn texts(encoder: &Encoder, frames: &[Frame]) -> Vec<String> {
    let messages = encoder.encode(frames).messages;
    messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
}

#[test]
fn syslog_lines_have_docker_s_forms() {
    let pid = std::process::id();
    let lines = [frame("stdout", "hello\n"), frame("stderr", "part")];
    let udp = ("syslog-address", "udp://h");
    let local = encoder("syslog", &[]);
    let short = "0123456789ab";
    assert_eq!(
        texts(&local, &lines),
        [
            format!("<30>Nov  2 03:04:05 {short}[{pid}]: hello"),
            format!("<27>Nov  2 03:04:05 {short}[{pid}]: part"),
        ]
    );
    let old = encoder("syslog", &[udp, ("syslog-format", "rfc3164"), ("syslog-facility", "mail")]);
    let line = format!("<22>Nov  2 03:04:05 host1 {short}[{pid}]: hello");
    assert_eq!(texts(&old, &lines)[0], line);
    let tag = ("tag", "{{.Name}} é/{{.ImageID}}");
    let new = encoder("syslog", &[udp, ("syslog-format", "rfc5424"), tag]);
    let name = "t1-web__/feedfacecafe";
    let line = format!("<30>1 2026-11-02T03:04:05.067Z host1 {name} {pid} {name} - hello");
    assert_eq!(texts(&new, &lines)[0], line);
    let long = encoder("syslog", &[("syslog-format", "rfc5424micro"), ("tag", &"x".repeat(60))]);
    let (name, id) = ("x".repeat(48), "x".repeat(32));
    let line = format!("<30>1 2026-11-02T03:04:05.067000Z host1 {name} {pid} {id} - hello");
    assert_eq!(texts(&long, &lines)[0], line);
    // Lines of a stream end, datagrams do not.
    let stream = encoder("syslog", &[("syslog-address", "tcp://h")]);
    assert!(texts(&stream, &lines).iter().all(|line| line.ends_with('\n')));
}

#[test]
fn the_journal_gets_fields_and_those_of_several_lines_with_their_length() {
    let journal = encoder("journald", &[("tag", "{{.Name}}")]);
    let [whole, part] = &texts(&journal, &[frame("stderr", "oops\n"), frame("stdout", "a")])[..]
    else {
        panic!("one datagram each")
    };
    let fields = "MESSAGE=oops\nPRIORITY=3\nSYSLOG_IDENTIFIER=t1-web\n\
        SYSLOG_TIMESTAMP=2026-11-02T03:04:05.067Z\nCONTAINER_ID=0123456789ab\n\
        CONTAINER_ID_FULL=t1-web\nCONTAINER_NAME=t1-web\nCONTAINER_TAG=t1-web\n\
        IMAGE_NAME=app:1\nID=7\nSTAGE\n\u{3}\0\0\0\0\0\0\0a\nb\n";
    assert_eq!(whole, fields);
    assert!(part.contains("PRIORITY=6\n") && part.contains("CONTAINER_PARTIAL_MESSAGE=true\n"));
}

#[test]
fn fluentd_gets_one_message_a_parcel() {
    let fluentd = encoder("fluentd", &[("tag", "a")]);
    let parcel = fluentd.encode(&[frame("stdout", "hi\n"), frame("stderr", "no")]);
    assert_eq!((parcel.messages.len(), &parcel.chunk), (1, &None));
    let pair = |name: &str, value: &str| {
        let word = |text: &str| [&[0xa0 | text.len() as u8][..], text.as_bytes()].concat();
        [word(name), word(value)].concat()
    };
    let about = [pair("container_id", "t1-web"), pair("container_name", "t1-web")].concat();
    let fields = [pair("id", "7"), pair("stage", "a\nb")].concat();
    let seconds = [&[0xce][..], &((AT / 1000) as u32).to_be_bytes()].concat();
    let first = [pair("source", "stdout"), pair("log", "hi")].concat();
    let second =
        [pair("source", "stderr"), pair("log", "no"), pair("partial_message", "true")].concat();
    let wanted = [
        &[0x92, 0xa1, b'a', 0x92, 0x92][..],
        &seconds,
        &[0x86],
        &about,
        &first,
        &fields,
        &[0x92],
        &seconds,
        &[0x87],
        &about,
        &second,
        &fields,
    ];
    assert_eq!(parcel.messages[0], wanted.concat());
}

#[test]
fn fluentd_is_asked_for_an_answer_and_told_nanoseconds_if_the_options_say_so() {
    let options =
        [("fluentd-request-ack", "true"), ("fluentd-sub-second-precision", "true"), ("tag", "a")];
    let fluentd = encoder("fluentd", &options);
    let parcel = fluentd.encode(&[frame("stdout", "hi\n")]);
    let (message, chunk) = (&parcel.messages[0], parcel.chunk.unwrap());
    let seconds = ((AT / 1000) as u32).to_be_bytes();
    let nanos = 67_000_000u32.to_be_bytes();
    let head = [&[0x93, 0xa1, b'a', 0x91, 0x92, 0xd7, 0][..], &seconds, &nanos].concat();
    assert!(message.starts_with(&head), "{message:x?}");
    let word = |text: &str| [&[0xa0 | text.len() as u8][..], text.as_bytes()].concat();
    let end = [&[0x81][..], &word("chunk"), &word(&chunk)].concat();
    assert!(message.ends_with(&end), "{message:x?}");
    let answer = [&[0x81][..], &word("ack"), &word(&chunk)].concat();
    assert_eq!(acknowledged(&answer), Some(chunk));
    // There is more to come, or it is something else.
    assert_eq!(acknowledged(&answer[..9]), None);
    assert_eq!(acknowledged(b""), None);
    assert_eq!(acknowledged(&[0xc0]), None);
}

#[test]
fn gelf_is_compressed_over_udp_and_ended_by_a_zero_over_tcp() {
    let line = [frame("stderr", "oops\n"), frame("stdout", " \n")];
    let tcp = encoder("gelf", &[("gelf-address", "tcp://h"), ("tag", "a")]);
    let parcel = tcp.encode(&line);
    let [message] = &parcel.messages[..] else { panic!("receivers refuse a line of blanks") };
    let (document, end) = message.split_at(message.len() - 1);
    assert_eq!(end, [0]);
    let wanted: Value = serde_json::json!({
        "version": "1.1", "host": "host1", "short_message": "oops", "level": 3,
        "timestamp": 1_793_588_645.067, "_stage": "a\nb", "_tag": "a",
        "_container_id": "t1-web", "_container_name": "t1-web", "_command": "/bin/app -v",
        "_image_id": "sha256:feedfacecafebeef", "_image_name": "app:1",
        "_created": "2026-11-02T03:04:05.067Z",
    });
    assert_eq!(serde_json::from_slice::<Value>(document).unwrap(), wanted);
    let udp = |kind| {
        let options = [("gelf-address", "udp://h"), ("gelf-compression-type", kind), ("tag", "a")];
        encoder("gelf", &options).encode(&line).messages.remove(0)
    };
    let read = |mut from: Box<dyn Read + '_>| {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(read(Box::new(GzDecoder::new(&udp("gzip")[..]))), wanted);
    assert_eq!(read(Box::new(ZlibDecoder::new(&udp("zlib")[..]))), wanted);
    assert_eq!(read(Box::new(&udp("none")[..])), wanted);
}

#[test]
fn gelf_that_fits_no_datagram_is_cut_into_numbered_chunks() {
    let options = [("gelf-address", "udp://h"), ("gelf-compression-type", "none")];
    let gelf = encoder("gelf", &options);
    let text = "0123456789".repeat(500);
    let chunks = gelf.encode(&[frame("stdout", &text)]).messages;
    assert_eq!(chunks.len(), 4);
    let mut whole = Vec::new();
    for (n, chunk) in chunks.iter().enumerate() {
        assert!(chunk.len() <= 1420);
        assert_eq!((&chunk[..2], &chunk[2..10]), (&[0x1e, 0x0f][..], &chunks[0][2..10]));
        assert_eq!(chunk[10..12], [n as u8, 4]);
        whole.extend_from_slice(&chunk[12..]);
    }
    let document: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(document["short_message"], text);
    // More chunks than receivers take.
    let endless = "a".repeat(200 * 1024);
    assert!(gelf.encode(&[frame("stdout", &endless)]).messages.is_empty());
}
