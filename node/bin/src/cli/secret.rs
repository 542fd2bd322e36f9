//! `muster secret`: what tasks are given and nobody is shown. A value is read from a file or from
//! standard input, never from an argument, which every user of the machine would see.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use super::taskdef::read;
use clap::Subcommand;
use muster_proto::{json, pb};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a secret; its value is the file as it is, with a line end if there is one.
    #[command(after_help = "Example:\n  printf %s \"$PASSWORD\" | muster secret create prod/db")]
    Create {
        name: String,
        /// Where its value is (- is standard input).
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Give a secret another value, which tasks that start from now on are given.
    #[command(after_help = "Example:\n  muster secret update prod/db password.txt")]
    Update {
        name: String,
        /// Where its value is (- is standard input).
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Secrets and their newest versions.
    #[command(after_help = "Example:\n  muster secret list")]
    List,
    /// The versions of a secret, as `NAME:VERSION` names them; values are not shown.
    #[command(after_help = "Example:\n  muster secret describe prod/db")]
    Describe { name: String },
    /// Forget a secret that no service's tasks are given; tasks that run keep what they have.
    #[command(after_help = "Example:\n  muster secret delete prod/db")]
    Delete { name: String },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create { name, file } => {
                let (value, client_token) = (read(&file)?, context.token());
                let request = pb::CreateSecretRequest { name, value, client_token };
                let answer =
                    context.operator(request, async |mut o, r| o.create_secret(r).await).await?;
                kept(context, &answer.name, answer.version)
            }
            Self::Update { name, file } => {
                let (value, client_token) = (read(&file)?, context.token());
                let request = pb::PutSecretValueRequest { name, value, client_token };
                let answer =
                    context.operator(request, async |mut o, r| o.put_secret_value(r).await).await?;
                kept(context, &answer.name, answer.version)
            }
            Self::List => list(context).await,
            Self::Describe { name } => describe(context, name).await,
            Self::Delete { name } => {
                let client_token = context.token();
                let request = pb::DeleteSecretRequest { name: name.clone(), client_token };
                context.operator(request, async |mut o, r| o.delete_secret(r).await).await?;
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

async fn list(context: &Context) -> Result<(), CliError> {
    let request = pb::ListSecretsRequest { stale: context.stale };
    let answer = context.operator_read(request, async |mut o, r| o.list_secrets(r).await).await?;
    match context.output {
        Format::Json => output::json(&json::to_value(&answer)),
        Format::Table => output::print(&output::table(
            &["SECRET", "VERSION", "CHANGED"],
            answer.secrets.iter().map(|row| {
                let newest = row.versions.last();
                vec![
                    row.name.clone(),
                    newest.map(|version| version.version.to_string()).unwrap_or_default(),
                    output::time(newest.and_then(|version| version.created_at.as_ref())),
                ]
            }),
        )),
    }
}

async fn describe(context: &Context, name: String) -> Result<(), CliError> {
    let request = pb::DescribeSecretRequest { name, stale: context.stale };
    let answer =
        context.operator_read(request, async |mut o, r| o.describe_secret(r).await).await?;
    let Some(row) = answer.secret else { return Ok(()) };
    match context.output {
        Format::Json => output::json(&json::to_value(&row)),
        Format::Table => output::print(&output::table(
            &["VERSION", "CREATED"],
            row.versions.iter().map(|version| {
                let name = format!("{}:{}", row.name, version.version);
                vec![name, output::time(version.created_at.as_ref())]
            }),
        )),
    }
}
