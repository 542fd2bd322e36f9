//! `muster token`: the secrets that machines join with.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Subcommand;
use muster_proto::pb;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replace the join token of a role; the old one is refused at once.
    #[command(after_help = "Example:\n  muster token rotate worker")]
    Rotate {
        #[arg(value_parser = ["manager", "worker"])]
        role: String,
    },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let Self::Rotate { role } = self;
        let request = pb::RotateTokenRequest { role, client_token: context.token() };
        let answer = context.operator(request, async |mut o, r| o.rotate_token(r).await).await?;
        match context.output {
            Format::Json => output::json(&serde_json::json!({ "token": answer.token })),
            Format::Table => output::print(&format!("{}\n", answer.token)),
        }
    }
}
