//! `muster access-key`: what ECS's own tools sign their requests with.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Subcommand;
use muster_proto::{json, pb};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and print its secret, which is shown this once.
    #[command(after_help = "Example:\n  eval \"$(muster access-key create --user ci)\"")]
    Create {
        /// Who acts with the key [default: the user of this certificate].
        #[arg(long)]
        user: Option<String>,
    },
    /// Keys, whose they are, and whether they are accepted.
    #[command(after_help = "Example:\n  muster access-key list --user ci")]
    List {
        /// Only this user's.
        #[arg(long)]
        user: Option<String>,
    },
    /// Refuse a key until it is enabled again.
    #[command(after_help = "Example:\n  muster access-key disable AKIAIOSFODNN7EXAMPLE")]
    Disable { access_key_id: String },
    /// Accept a disabled key again.
    #[command(after_help = "Example:\n  muster access-key enable AKIAIOSFODNN7EXAMPLE")]
    Enable { access_key_id: String },
    /// Refuse a key for good.
    #[command(after_help = "Example:\n  muster access-key delete AKIAIOSFODNN7EXAMPLE")]
    Delete { access_key_id: String },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create { user } => create(context, user.unwrap_or_default()).await,
            Self::List { user } => list(context, user.unwrap_or_default()).await,
            Self::Disable { access_key_id } => switch(context, access_key_id, "Inactive").await,
            Self::Enable { access_key_id } => switch(context, access_key_id, "Active").await,
            Self::Delete { access_key_id } => {
                let (id, client_token) = (access_key_id.clone(), context.token());
                let request = pb::DeleteAccessKeyRequest { access_key_id, client_token };
                context.operator(request, async |mut o, r| o.delete_access_key(r).await).await?;
                match context.output {
                    Format::Json => output::json(&serde_json::json!({ "deleted": id })),
                    Format::Table => output::print(&format!("{id} is refused from now on\n")),
                }
            }
        }
    }
}

async fn create(context: &Context, user: String) -> Result<(), CliError> {
    let request = pb::CreateAccessKeyRequest { user, client_token: context.token() };
    let answer = context.operator(request, async |mut o, r| o.create_access_key(r).await).await?;
    match context.output {
        Format::Json => output::json(&json::to_value(&answer)),
        // A shell can take the whole of it.
        Format::Table => output::print(&format!(
            "# acts as user {}; the secret is not shown again\nexport AWS_ACCESS_KEY_ID={}\n\
             export AWS_SECRET_ACCESS_KEY={}\n",
            answer.user, answer.access_key_id, answer.secret_access_key
        )),
    }
}

async fn list(context: &Context, user: String) -> Result<(), CliError> {
    let request = pb::ListAccessKeysRequest { user, stale: context.stale };
    let answer =
        context.operator_read(request, async |mut o, r| o.list_access_keys(r).await).await?;
    match context.output {
        Format::Json => output::json(&json::to_value(&answer)),
        Format::Table => output::print(&output::table(
            &["ACCESS KEY", "USER", "STATUS", "CREATED"],
            answer.access_keys.iter().map(|row| {
                vec![
                    row.access_key_id.clone(),
                    row.user.clone(),
                    row.status.clone(),
                    output::time(row.created_at.as_ref()),
                ]
            }),
        )),
    }
}

async fn switch(context: &Context, id: String, status: &str) -> Result<(), CliError> {
    let request = pb::UpdateAccessKeyRequest {
        access_key_id: id.clone(),
        status: status.into(),
        client_token: context.token(),
    };
    context.operator(request, async |mut o, r| o.update_access_key(r).await).await?;
    match context.output {
        Format::Json => output::json(&serde_json::json!({ "accessKeyId": id, "status": status })),
        Format::Table => output::print(&format!("{id} is {status}\n")),
    }
}
