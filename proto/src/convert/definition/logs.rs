//! Where a container's output goes: `logConfiguration`.
//!
//! It goes to files on the instance, with rotation, whatever driver is named; drivers that are
//! built send it on besides, and one that is not is refused.

use crate::convert::{At, text};
use crate::pb;
use muster_model::Error;
use muster_model::log_driver::{AWSLOGS, Forwarding, JSON_FILE, LOG_DRIVERS, Refused};
use muster_model::spec::LogConfiguration;
use std::collections::BTreeMap;

const CREATE_GROUP: &str = "awslogs-create-group";
/// Those of them that ECS wants, in the order in which it names them.
const REQUIRED_OPTIONS: [&str; 2] = ["awslogs-region", "awslogs-group"];
/// Options of ECS's awslogs driver.
const AWSLOGS_OPTIONS: [&str; 8] = [
    CREATE_GROUP,
    "awslogs-datetime-format",
    "awslogs-group",
    "awslogs-multiline-pattern",
    "awslogs-region",
    "awslogs-stream-prefix",
    "max-buffer-size",
    "mode",
];
/// CloudWatch: a group's name; nothing else in a log's options is longer.
const LOG_OPTION_CHARS_MAX: usize = muster_model::log_driver::OPTION_CHARS_MAX;
/// Docker's names for the limits of the files that are kept beside what is sent on.
const CACHE: &str = "cache-";

pub fn logs(at: &At<'_>, wire: &pb::LogConfiguration) -> Result<LogConfiguration, Error> {
    let driver = at.field("logDriver");
    let options = at.field("options");
    match wire.log_driver.as_str() {
        JSON_FILE => each(&options, &wire.options, json_file_option)?,
        AWSLOGS => {
            each(&options, &wire.options, awslogs_option)?;
            required(&options, &wire.options)?;
        }
        "awsfirelens" | "splunk" => {
            let instead = "neither it nor log routers are built; use fluentd, gelf, journald or \
                           syslog, or leave logConfiguration out: `muster task logs` reads them";
            return Err(driver.unsupported(&wire.log_driver, instead));
        }
        other if LOG_DRIVERS.contains(&other) => forwarded(&options, other, &wire.options)?,
        other => return Err(driver.invalid(other, LOG_DRIVERS.join(", "))),
    }
    Ok(LogConfiguration { driver: wire.log_driver.clone(), options: wire.options.clone() })
}

fn each(
    at: &At<'_>,
    options: &BTreeMap<String, String>,
    fits: fn(&At<'_>, &str, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    options.iter().try_for_each(|(option, value)| fits(at, option, value))
}

/// Of a driver that sends output on.
fn forwarded(at: &At<'_>, driver: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
    Forwarding::read(driver, options).map_err(|refused| match refused {
        Refused::Unknown { option, known } => {
            let why =
                format!("Log driver {driver} disallows options: {option} (It takes {known}.)");
            at.invalid(option, why)
        }
        Refused::Missing { option } => {
            let hint = "(It says where the receiver is.)";
            at.invalid("", format!("Log driver {driver} requires options: {option} {hint}"))
        }
        Refused::Value { option, value, allowed } => at.field(option).invalid(value, allowed),
    })?;
    for (option, value) in options {
        match option.strip_prefix(CACHE) {
            Some(limit) => file_limit(&at.field(option), limit, value)?,
            None => text(&at.field(option), value, 0..=LOG_OPTION_CHARS_MAX)?,
        }
    }
    Ok(())
}

fn json_file_option(at: &At<'_>, option: &str, value: &str) -> Result<(), Error> {
    match option {
        "max-size" | "max-file" => file_limit(&at.field(option), option, value),
        _ => Err(at.invalid(option, "max-size, max-file")),
    }
}

/// How large files become (`max-size`), or how many are kept.
fn file_limit(at: &At<'_>, limit: &str, value: &str) -> Result<(), Error> {
    let number = match limit {
        "max-size" => value.strip_suffix(['k', 'm', 'g']).unwrap_or(value),
        _ => value,
    };
    let digits = number.len() <= 9 && number.bytes().all(|b| b.is_ascii_digit());
    match number.parse::<u32>() {
        Ok(1..) if digits => Ok(()),
        _ => Err(at.invalid(value, "a number from 1; max-size with k, m or g")),
    }
}

/// Kept and shown: they say what CloudWatch is to do.
fn awslogs_option(at: &At<'_>, option: &str, value: &str) -> Result<(), Error> {
    if !AWSLOGS_OPTIONS.contains(&option) {
        let known = AWSLOGS_OPTIONS.join(", ");
        let why = format!("Log driver awslogs disallows options: {option} (It takes {known}.)");
        return Err(at.invalid(option, why));
    }
    if option == CREATE_GROUP && value != "true" {
        let why = format!(
            "Log driver awslogs option '{CREATE_GROUP}' should only be set to 'true', else omit \
             option."
        );
        return Err(at.field(option).invalid(value, why));
    }
    text(&at.field(option), value, 0..=LOG_OPTION_CHARS_MAX)
}

/// ECS takes no awslogs without them, wherever the output goes.
fn required(at: &At<'_>, options: &BTreeMap<String, String>) -> Result<(), Error> {
    let missing = REQUIRED_OPTIONS.iter().filter(|name| !options.contains_key(**name));
    match missing.copied().collect::<Vec<_>>().join(", ").as_str() {
        "" => Ok(()),
        missing => {
            let hint = "(They are kept and shown: `muster task logs` reads the output.)";
            let why = format!("Log driver awslogs requires options: {missing} {hint}");
            Err(at.invalid("", why))
        }
    }
}
