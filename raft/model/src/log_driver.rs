//! Log drivers: what the options of those that send output on say, read.
//!
//! With every driver output is kept in files on the instance, with rotation, where `muster task
//! logs` reads it. What `awslogs` says of CloudWatch is kept and shown (docs/decisions/0016). The
//! others send it on besides (docs/decisions/0026); their options are Docker's
//! (docs.docker.com/engine/logging/drivers), and what is not known here is refused by name. Where a
//! receiver is, and how bytes look on the wire, the agent knows.

use std::collections::BTreeMap;
use std::fmt;

pub const AWSLOGS: &str = "awslogs";
pub const FLUENTD: &str = "fluentd";
pub const GELF: &str = "gelf";
pub const JOURNALD: &str = "journald";
pub const JSON_FILE: &str = "json-file";
pub const SYSLOG: &str = "syslog";
/// Those that agents take.
pub const LOG_DRIVERS: [&str; 6] = [AWSLOGS, FLUENTD, GELF, JOURNALD, JSON_FILE, SYSLOG];

/// Characters of one option's value, as of CloudWatch's names.
pub const OPTION_CHARS_MAX: usize = 512;
/// Names in `env` or `labels`.
const NAMES_MAX: usize = 64;

/// Options of every driver that sends output on.
const COMMON: [&str; 5] = ["cache-max-file", "cache-max-size", "max-buffer-size", "mode", "tag"];
/// Of those whose messages have fields.
const FIELDS: [&str; 2] = ["env", "labels"];
const SYSLOG_OPTIONS: [&str; 3] = ["syslog-address", "syslog-facility", "syslog-format"];
const FLUENTD_OPTIONS: [&str; 4] =
    ["fluentd-address", "fluentd-async", "fluentd-request-ack", "fluentd-sub-second-precision"];
const GELF_OPTIONS: [&str; 3] = ["gelf-address", "gelf-compression-level", "gelf-compression-type"];

/// RFC 5424, table 1, by the names of syslog.h; those of 12 to 15 have none.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const FACILITY_DAEMON: u8 = 3;

/// Where output is sent beside the files, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    pub receiver: Receiver,
    pub tag: Vec<TagPart>,
    /// Variables of the environment that become fields.
    pub env: Vec<String>,
    /// Docker labels that become fields.
    pub labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    Syslog { to: Address, facility: u8, format: SyslogFormat },
    Journald,
    Fluentd { to: Address, acknowledged: bool, sub_second: bool },
    Gelf { to: Address, compression: Option<Compression> },
}

/// `host:port`, or the path of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(String),
    Udp(String),
    Unix(String),
    Unixgram(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogFormat {
    /// Docker's without `syslog-format`: RFC 3164 without the host, as a machine's own socket has.
    Local,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

/// Of messages sent over UDP, with zlib's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Gzip(u32),
    Zlib(u32),
}

/// A piece of `tag`: text, or what stands there of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagPart {
    Text(String),
    Field(TagField),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagField {
    Id,
    FullId,
    Name,
    ImageId,
    ImageFullId,
    ImageName,
    DaemonName,
}

const TAG_FIELDS: [(&str, TagField); 7] = [
    ("ID", TagField::Id),
    ("FullID", TagField::FullId),
    ("Name", TagField::Name),
    ("ImageID", TagField::ImageId),
    ("ImageFullID", TagField::ImageFullId),
    ("ImageName", TagField::ImageName),
    ("DaemonName", TagField::DaemonName),
];

/// Why options are refused. `allowed` is what may stand there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Unknown { option: String, known: String },
    Missing { option: &'static str },
    Value { option: &'static str, value: String, allowed: String },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { option, known } => {
                write!(f, "option {option} is unknown; allowed: {known}")
            }
            Self::Missing { option } => write!(f, "option {option} is missing"),
            Self::Value { option, value, allowed } => {
                write!(f, "{option}: {value:?} is not allowed; allowed: {allowed}")
            }
        }
    }
}

type Options = BTreeMap<String, String>;

impl Forwarding {
    /// What a driver's options mean; none for a driver whose output stays on the instance.
    ///
    /// # Errors
    /// The first option that is unknown, missing or wrong.
    pub fn read(driver: &str, options: &Options) -> Result<Option<Self>, Refused> {
        let known: Vec<&str> = match driver {
            SYSLOG => COMMON.into_iter().chain(SYSLOG_OPTIONS).collect(),
            JOURNALD => COMMON.into_iter().chain(FIELDS).collect(),
            FLUENTD => COMMON.into_iter().chain(FIELDS).chain(FLUENTD_OPTIONS).collect(),
            GELF => COMMON.into_iter().chain(FIELDS).chain(GELF_OPTIONS).collect(),
            _ => return Ok(None),
        };
        if let Some(option) = options.keys().find(|option| !known.contains(&option.as_str())) {
            return Err(Refused::Unknown { option: option.clone(), known: sorted(known) });
        }
        one_of(options, "mode", &[("blocking", ()), ("non-blocking", ())])?;
        Ok(Some(Self {
            receiver: match driver {
                SYSLOG => syslog(options)?,
                JOURNALD => Receiver::Journald,
                FLUENTD => fluentd(options)?,
                _ => gelf(options)?,
            },
            tag: tag(options)?,
            env: names(options, "env")?,
            labels: names(options, "labels")?,
        }))
    }
}

fn sorted(mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.join(", ")
}

fn syslog(options: &Options) -> Result<Receiver, Refused> {
    let allowed = "udp://HOST:PORT, tcp://HOST:PORT, unix://PATH or unixgram://PATH";
    let read = |text: &str| match text.split_once("://") {
        Some(("udp", host)) => with_port(host, 514).map(Address::Udp),
        Some(("tcp", host)) => with_port(host, 514).map(Address::Tcp),
        Some(("unix", path)) => absolute(path).map(Address::Unix),
        Some(("unixgram", path)) => absolute(path).map(Address::Unixgram),
        _ => None,
    };
    let to = value(options, "syslog-address", allowed, read)?;
    let facility = |text: &str| {
        let named = FACILITIES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        named.or_else(|| text.parse().ok().filter(|number| *number <= 23))
    };
    let names = FACILITIES.map(|(name, _)| name).join(", ");
    let formats = [
        ("rfc3164", SyslogFormat::Rfc3164),
        ("rfc5424", SyslogFormat::Rfc5424),
        ("rfc5424micro", SyslogFormat::Rfc5424Micro),
    ];
    Ok(Receiver::Syslog {
        // The machine's own syslog.
        to: to.unwrap_or_else(|| Address::Unixgram("/dev/log".to_owned())),
        facility: value(options, "syslog-facility", &format!("{names}, 0 to 23"), facility)?
            .unwrap_or(FACILITY_DAEMON),
        format: one_of(options, "syslog-format", &formats)?.unwrap_or(SyslogFormat::Local),
    })
}

fn fluentd(options: &Options) -> Result<Receiver, Refused> {
    let read = |text: &str| match text.split_once("://") {
        Some(("tcp", host)) => with_port(host, 24224).map(Address::Tcp),
        Some(("unix", path)) => absolute(path).map(Address::Unix),
        Some(_) => None,
        None => with_port(text, 24224).map(Address::Tcp),
    };
    let allowed = "HOST:PORT, tcp://HOST:PORT or unix://PATH";
    let switch = |option| one_of(options, option, &[("true", true), ("false", false)]);
    // A container never waits for its receiver, whatever it says.
    switch("fluentd-async")?;
    let to = value(options, "fluentd-address", allowed, read)?;
    Ok(Receiver::Fluentd {
        to: to.unwrap_or_else(|| Address::Tcp("127.0.0.1:24224".to_owned())),
        acknowledged: switch("fluentd-request-ack")?.unwrap_or_default(),
        sub_second: switch("fluentd-sub-second-precision")?.unwrap_or_default(),
    })
}

fn gelf(options: &Options) -> Result<Receiver, Refused> {
    let read = |text: &str| match text.split_once("://") {
        Some(("udp", host)) => with_port(host, 12201).map(Address::Udp),
        Some(("tcp", host)) => with_port(host, 12201).map(Address::Tcp),
        _ => None,
    };
    let to = value(options, "gelf-address", "udp://HOST:PORT or tcp://HOST:PORT", read)?;
    let to = to.ok_or(Refused::Missing { option: "gelf-address" })?;
    let level = |text: &str| text.parse::<u32>().ok().filter(|level| *level <= 9);
    // Docker: as fast as it goes.
    let level = value(options, "gelf-compression-level", "0 to 9", level)?.unwrap_or(1);
    let kinds = [
        ("gzip", Some(Compression::Gzip(level))),
        ("zlib", Some(Compression::Zlib(level))),
        ("none", None),
    ];
    let said = one_of(options, "gelf-compression-type", &kinds)?;
    if let (Address::Tcp(_), Some(Some(_))) = (&to, said) {
        return Err(Refused::Value {
            option: "gelf-compression-type",
            value: options["gelf-compression-type"].clone(),
            allowed: "none over tcp: GELF compresses over udp only".to_owned(),
        });
    }
    let compression = match to {
        Address::Tcp(_) => None,
        _ => said.unwrap_or(kinds[0].1),
    };
    Ok(Receiver::Gelf { to, compression })
}

/// What an option says, if it is given.
fn value<T>(
    options: &Options,
    option: &'static str,
    allowed: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refused> {
    let Some(text) = options.get(option) else { return Ok(None) };
    let read = if text.len() <= OPTION_CHARS_MAX { read(text) } else { None };
    match read {
        Some(value) => Ok(Some(value)),
        None => {
            let allowed = allowed.to_owned();
            Err(Refused::Value { option, value: text.clone(), allowed })
        }
    }
}

fn one_of<T: Copy>(
    options: &Options,
    option: &'static str,
    all: &[(&str, T)],
) -> Result<Option<T>, Refused> {
    let allowed = all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let read = |text: &str| all.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    value(options, option, &allowed, read)
}

/// `host` or `host:port`; an address of IPv6 stands in brackets.
fn with_port(text: &str, port: u16) -> Option<String> {
    let (host, rest) = match text.starts_with('[') {
        true => text.split_at(text.find(']')? + 1),
        false => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(good) {
        return None;
    }
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some(format!("{host}:{port}")),
        None => None,
        Some(port) => {
            port.parse::<u16>().ok().filter(|port| *port > 0).map(|port| format!("{host}:{port}"))
        }
    }
}

/// Linux: 108 bytes with the zero at the end.
fn absolute(path: &str) -> Option<String> {
    (path.starts_with('/') && path.len() < 108).then(|| path.to_owned())
}

fn names(options: &Options, option: &'static str) -> Result<Vec<String>, Refused> {
    let read = |text: &str| {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        (names.len() <= NAMES_MAX && names.iter().all(|name| !name.is_empty())).then_some(names)
    };
    let allowed = format!("1 to {NAMES_MAX} names, separated by commas");
    Ok(value(options, option, &allowed, read)?.unwrap_or_default())
}

/// Docker's default is the short id.
fn tag(options: &Options) -> Result<Vec<TagPart>, Refused> {
    let fields = TAG_FIELDS.map(|(name, _)| format!("{{{{.{name}}}}}")).join(", ");
    let tag = value(options, "tag", &format!("text with {fields}"), template)?;
    Ok(tag.unwrap_or_else(|| vec![TagPart::Field(TagField::Id)]))
}

fn template(mut text: &str) -> Option<Vec<TagPart>> {
    let mut parts = Vec::new();
    while let Some(at) = text.find("{{") {
        let (before, rest) = (&text[..at], &text[at + 2..]);
        let (inside, after) = rest.split_once("}}")?;
        let name = inside.trim().strip_prefix('.')?;
        let (_, field) = TAG_FIELDS.iter().find(|(known, _)| *known == name)?;
        if !before.is_empty() {
            parts.push(TagPart::Text(before.to_owned()));
        }
        parts.push(TagPart::Field(*field));
        text = after;
    }
    if !text.is_empty() {
        parts.push(TagPart::Text(text.to_owned()));
    }
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(driver: &str, options: &[(&str, &str)]) -> Result<Forwarding, Refused> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Forwarding::read(driver, &options).map(|read| read.expect("it sends output on"))
    }

    #[test]
    fn without_options_each_driver_does_what_docker_s_does() {
        let local = read(SYSLOG, &[]).unwrap();
        let to = Address::Unixgram("/dev/log".into());
        let format = SyslogFormat::Local;
        assert_eq!(local.receiver, Receiver::Syslog { to, facility: 3, format });
        assert_eq!(local.tag, [TagPart::Field(TagField::Id)]);
        let to = Address::Tcp("127.0.0.1:24224".into());
        let fluentd = Receiver::Fluentd { to, acknowledged: false, sub_second: false };
        assert_eq!(read(FLUENTD, &[]).unwrap().receiver, fluentd);
        assert_eq!(read(JOURNALD, &[]).unwrap().receiver, Receiver::Journald);
        assert_eq!(read(GELF, &[]), Err(Refused::Missing { option: "gelf-address" }));
        let stays = |driver| Forwarding::read(driver, &Options::new()).unwrap();
        assert_eq!((stays(AWSLOGS), stays(JSON_FILE)), (None, None));
    }

    #[test]
    fn addresses_have_a_scheme_a_host_and_the_driver_s_own_port_if_they_name_none() {
        let syslog = |text| match read(SYSLOG, &[("syslog-address", text)]) {
            Ok(Forwarding { receiver: Receiver::Syslog { to, .. }, .. }) => Some(to),
            _ => None,
        };
        assert_eq!(syslog("udp://logs"), Some(Address::Udp("logs:514".into())));
        assert_eq!(syslog("tcp://[::1]:1514"), Some(Address::Tcp("[::1]:1514".into())));
        assert_eq!(syslog("tcp://[::1]"), Some(Address::Tcp("[::1]:514".into())));
        assert_eq!(syslog("unix:///run/log"), Some(Address::Unix("/run/log".into())));
        for bad in [
            "logs:514",
            "tcp+tls://a:1",
            "udp://",
            "udp://a:0",
            "udp://a:65536",
            "udp://a b",
            "unix://run/log",
            "tcp://[::1",
            "tcp://[::1]5",
            "tcp://a:1:2",
        ] {
            assert_eq!(syslog(bad), None, "{bad}");
        }
        let gelf = |more: &[(&str, &str)]| {
            let address = ("gelf-address", "tcp://g");
            read(GELF, &[&[address], more].concat()).map(|read| read.receiver)
        };
        let to = Address::Tcp("g:12201".into());
        assert_eq!(gelf(&[]), Ok(Receiver::Gelf { to, compression: None }));
        assert!(gelf(&[("gelf-compression-type", "gzip")]).is_err());
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let unknown = read(JOURNALD, &[("syslog-facility", "mail")]).unwrap_err();
        let known = "cache-max-file, cache-max-size, env, labels, max-buffer-size, mode, tag";
        let (option, known) = ("syslog-facility".to_owned(), known.to_owned());
        assert_eq!(unknown, Refused::Unknown { option, known });
        for (driver, option, value) in [
            (SYSLOG, "syslog-facility", "24"),
            (SYSLOG, "syslog-format", "rfc1"),
            (SYSLOG, "tag", "{{.Who}}"),
            (SYSLOG, "tag", "{{.ID"),
            (SYSLOG, "tag", ""),
            (SYSLOG, "mode", "later"),
            (FLUENTD, "fluentd-async", "yes"),
            (FLUENTD, "env", "A,,B"),
        ] {
            let refused = read(driver, &[(option, value)]).unwrap_err();
            let Refused::Value { option: told, .. } = &refused else { panic!("{refused:?}") };
            assert_eq!(*told, option);
        }
        assert!(read(JOURNALD, &[("tag", &"a".repeat(OPTION_CHARS_MAX + 1))]).is_err());
    }

    #[test]
    fn a_tag_is_text_with_fields() {
        let tag = read(JOURNALD, &[("tag", "{{.ImageName}}/{{ .Name }}!")]).unwrap().tag;
        let text = |text: &str| TagPart::Text(text.to_owned());
        let field = TagPart::Field;
        let parts = [field(TagField::ImageName), text("/"), field(TagField::Name), text("!")];
        assert_eq!(tag, parts);
    }
}
