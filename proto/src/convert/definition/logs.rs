//! Where a container's output goes: `logConfiguration`.
//!
//! It goes to files on the instance, with rotation, whatever driver is named; a driver that would
//! take it elsewhere alone is refused.

use crate::convert::{At, text};
use crate::pb;
use muster_model::Error;
use muster_model::instance::{AWSLOGS, JSON_FILE, LOG_DRIVERS};
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
const LOG_OPTION_CHARS_MAX: usize = 512;

pub fn logs(at: &At<'_>, wire: &pb::LogConfiguration) -> Result<LogConfiguration, Error> {
    let driver = at.field("logDriver");
    let fits = match wire.log_driver.as_str() {
        JSON_FILE => json_file_option,
        AWSLOGS => awslogs_option,
        "awsfirelens" | "fluentd" | "gelf" | "journald" | "splunk" | "syslog" => {
            let instead = "other log drivers are not built; use json-file or awslogs, or leave \
                           logConfiguration out: `muster task logs` reads them";
            return Err(driver.unsupported(&wire.log_driver, instead));
        }
        other => return Err(driver.invalid(other, LOG_DRIVERS.join(", "))),
    };
    for (option, value) in &wire.options {
        fits(&at.field("options"), option, value)?;
    }
    if wire.log_driver == AWSLOGS {
        required(&at.field("options"), &wire.options)?;
    }
    Ok(LogConfiguration { driver: wire.log_driver.clone(), options: wire.options.clone() })
}

fn json_file_option(at: &At<'_>, option: &str, value: &str) -> Result<(), Error> {
    let digits = |text: &str| {
        !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit())
    };
    let size = value.strip_suffix(['k', 'm', 'g']).unwrap_or(value);
    let fits = match option {
        "max-size" => digits(size) && size.parse() != Ok(0_u32),
        "max-file" => digits(value) && value.parse() != Ok(0_u32),
        _ => return Err(at.invalid(option, "max-size, max-file")),
    };
    if fits {
        return Ok(());
    }
    Err(at.field(option).invalid(value, "a number from 1; max-size with k, m or g"))
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
