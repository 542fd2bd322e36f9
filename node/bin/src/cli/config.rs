//! `muster config`: what tasks are given and users may read. A value is a file or standard input.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use super::taskdef::read;
use clap::Subcommand;
use muster_proto::{json, pb};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a config; its value is the file as it is.
    #[command(after_help = "Example:\n  muster config create prod/app.env app.env")]
    Create {
        name: String,
        /// Where its value is (- is standard input).
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Give a config another value, which tasks that start from now on are given.
    #[command(after_help = "Example:\n  muster config update prod/app.env app.env")]
    Update {
        name: String,
        /// Where its value is (- is standard input).
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Print a config's value as it is.
    #[command(after_help = "Examples:\n  muster config get prod/app.env\n  \
        muster config get prod/app.env:1       an older version")]
    Get {
        /// NAME, or NAME:VERSION.
        name: Reference,
    },
    /// Configs and their versions.
    #[command(after_help = "Example:\n  muster config list")]
    List,
    /// Forget a config that no service's tasks are given; tasks that run keep what they have.
    #[command(after_help = "Example:\n  muster config delete prod/app.env")]
    Delete { name: String },
}

/// A config, and which version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    name: String,
    version: Option<u64>,
}

impl std::str::FromStr for Reference {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, version)) = text.split_once(':') else {
            return Ok(Self { name: text.to_owned(), version: None });
        };
        let version = version.parse().ok().filter(|version| *version > 0);
        let wrong = || format!("{text:?} is not allowed; allowed: NAME, or NAME:VERSION from 1");
        Ok(Self { name: name.to_owned(), version: Some(version.ok_or_else(wrong)?) })
    }
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create { name, file } => {
                let (value, client_token) = (read(&file)?, context.token());
                let request = pb::CreateConfigRequest { name, value, client_token };
                let answer =
                    context.operator(request, async |mut o, r| o.create_config(r).await).await?;
                kept(context, &answer.name, answer.version)
            }
            Self::Update { name, file } => {
                let (value, client_token) = (read(&file)?, context.token());
                let request = pb::PutConfigValueRequest { name, value, client_token };
                let answer =
                    context.operator(request, async |mut o, r| o.put_config_value(r).await).await?;
                kept(context, &answer.name, answer.version)
            }
            Self::Get { name } => get(context, name).await,
            Self::List => list(context).await,
            Self::Delete { name } => {
                let client_token = context.token();
                let request = pb::DeleteConfigRequest { name: name.clone(), client_token };
                context.operator(request, async |mut o, r| o.delete_config(r).await).await?;
                match context.output {
                    Format::Json => output::json(&serde_json::json!({ "deleted": name })),
                    Format::Table => output::print(&format!("{name} is deleted\n")),
                }
            }
        }
    }
}

fn kept(context: &Context, name: &str, version: u64) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&serde_json::json!({ "name": name, "version": version })),
        Format::Table => output::print(&format!("{name}:{version}\n")),
    }
}

async fn get(context: &Context, Reference { name, version }: Reference) -> Result<(), CliError> {
    let request = pb::GetConfigRequest { name, version, stale: context.stale };
    let answer = context.operator_read(request, async |mut o, r| o.get_config(r).await).await?;
    match context.output {
        Format::Json => output::json(&json::to_value(&answer)),
        Format::Table => output::print(&answer.value),
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let request = pb::ListConfigsRequest { stale: context.stale };
    let answer = context.operator_read(request, async |mut o, r| o.list_configs(r).await).await?;
    match context.output {
        Format::Json => output::json(&json::to_value(&answer)),
        Format::Table => output::print(&output::table(
            &["CONFIG", "VERSIONS", "CHANGED"],
            answer.configs.iter().map(|row| {
                let numbers: Vec<String> =
                    row.versions.iter().map(|version| version.version.to_string()).collect();
                let newest = row.versions.last().and_then(|newest| newest.created_at.as_ref());
                vec![row.name.clone(), numbers.join(", "), output::time(newest)]
            }),
        )),
    }
}
