//! `muster taskdef`: task definitions, in exactly ECS's JSON form.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Subcommand;
use muster_proto::{json, pb};
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register a new revision from a JSON file (- reads standard input).
    #[command(after_help = "Example:\n  muster taskdef register web.json")]
    Register {
        file: PathBuf,
        /// Ignore fields that are not known, as the ECS wire protocol does.
        #[arg(long)]
        lenient: bool,
    },
    /// Registered task definitions, newest revision last.
    #[command(after_help = "Example:\n  muster taskdef list --family web")]
    List {
        #[arg(long, default_value = "", hide_default_value = true)]
        family: String,
        /// ACTIVE or INACTIVE.
        #[arg(long, default_value = "ACTIVE")]
        status: String,
    },
    /// One task definition: family (its newest revision) or family:revision.
    #[command(after_help = "Example:\n  muster taskdef describe web:3")]
    Describe { name: String },
    /// Let no new task start from a revision; what runs goes on.
    #[command(after_help = "Example:\n  muster taskdef deregister web:3")]
    Deregister { name: String },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Register { file, lenient } => {
                let text = read(&file)?;
                let parsed = match lenient {
                    true => json::from_str_lenient::<pb::RegisterTaskDefinitionRequest>(&text),
                    false => json::from_str_strict(&text),
                };
                let mut request = parsed?;
                if request.client_token.is_empty() {
                    request.client_token = context.token();
                }
                let answer =
                    context.ecs(request, async |mut ecs, r| ecs.register_task_definition(r).await);
                show(context, answer.await?.task_definition)
            }
            Self::List { family, status } => list(context, family, status).await,
            Self::Describe { name } => {
                let request = pb::DescribeTaskDefinitionRequest {
                    task_definition: name,
                    include: vec!["TAGS".into()],
                    stale: context.stale,
                };
                let answer =
                    context.ecs(request, async |mut ecs, r| ecs.describe_task_definition(r).await);
                describe(context, answer.await?)
            }
            Self::Deregister { name } => {
                let request = pb::DeregisterTaskDefinitionRequest {
                    task_definition: name,
                    client_token: context.token(),
                };
                let answer = context
                    .ecs(request, async |mut ecs, r| ecs.deregister_task_definition(r).await);
                show(context, answer.await?.task_definition)
            }
        }
    }
}

/// A text file; `-` is standard input.
pub fn read(file: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let result = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    result.map_err(|source| CliError::File { doing: "reading", path: file.into(), source })?;
    Ok(text)
}

async fn list(context: &Context, family: String, status: String) -> Result<(), CliError> {
    let mut arns = Vec::new();
    let mut next_token = String::new();
    loop {
        let request = pb::ListTaskDefinitionsRequest {
            family_prefix: family.clone(),
            status: status.clone(),
            next_token,
            stale: context.stale,
            ..Default::default()
        };
        let page =
            context.ecs(request, async |mut ecs, r| ecs.list_task_definitions(r).await).await?;
        arns.extend(page.task_definition_arns);
        if page.next_token.is_empty() {
            break;
        }
        next_token = page.next_token;
    }
    match context.output {
        Format::Json => output::json(&serde_json::json!({ "taskDefinitionArns": arns })),
        Format::Table => output::print(&output::table(
            &["TASK DEFINITION", "ARN"],
            arns.iter().map(|arn| vec![output::short(arn).to_owned(), arn.clone()]),
        )),
    }
}

fn describe(context: &Context, answer: pb::DescribeTaskDefinitionResponse) -> Result<(), CliError> {
    // A definition is a document: its JSON is the readable form too.
    match context.output {
        Format::Json => output::json(&json::to_value(&answer)),
        Format::Table => match answer.task_definition {
            Some(definition) => output::json(&json::to_value(&definition)),
            None => Ok(()),
        },
    }
}

fn show(context: &Context, definition: Option<pb::TaskDefinition>) -> Result<(), CliError> {
    let Some(definition) = definition else { return Ok(()) };
    match context.output {
        Format::Json => output::json(&json::to_value(&definition)),
        Format::Table => output::print(&format!(
            "{}:{}  {}\n",
            definition.family, definition.revision, definition.status
        )),
    }
}
