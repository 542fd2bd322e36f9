//! Tables for people, JSON for programs; nothing else is printed to stdout.

use super::CliError;
use comfy_table::{ContentArrangement, Table, presets};
use std::io::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Rows under a header, aligned, without lines.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    // comfy-table pads the last column; trailing blanks would end up in people's diffs.
    table.to_string().lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Name and value per line, for one thing described.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

/// Writes to stdout; a reader that went away (`| head`) ends the command quietly.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(CliError::PipeClosed),
        result => result.map_err(CliError::Output),
    }
}

/// One JSON document, indented.
pub fn json(value: &serde_json::Value) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(CliError::Json)?;
    print(&format!("{text}\n"))
}

/// One JSON document on one line, for streams.
pub fn json_line(value: &serde_json::Value) -> Result<(), CliError> {
    print(&format!("{value}\n"))
}

/// The last part of an ARN: what people type.
pub fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// A date and time in UTC, to the second.
pub fn time(at: Option<&prost_types::Timestamp>) -> String {
    at.map(|at| at.to_string().split('.').next().unwrap_or_default().trim_end_matches('Z').into())
        .map(|text: String| text.replace('T', " "))
        .unwrap_or_default()
}
