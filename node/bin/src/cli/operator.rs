//! `muster operator`: the managers themselves.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Subcommand;
use muster_proto::{json, pb};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The replicated log: who leads, who votes, how far each has come.
    #[command(after_help = "Example:\n  muster operator raft status")]
    Raft {
        #[command(subcommand)]
        command: Raft,
    },
}

#[derive(Debug, Subcommand)]
pub enum Raft {
    /// Members, leader and positions, as the asked manager sees them.
    #[command(after_help = "Example:\n  muster operator raft status")]
    Status {
        /// Also a hash of all rows, the same on all managers that have applied the same; reads
        /// everything, which takes seconds with a million tasks.
        #[arg(long)]
        state_hash: bool,
    },
    /// Hand leadership to another manager.
    #[command(after_help = "Example:\n  muster operator raft transfer --to 2")]
    Transfer {
        /// Raft id [default: whoever is furthest].
        #[arg(long, default_value_t = 0)]
        to: u64,
    },
    /// Give a joined manager a vote (joining does this by itself once it has caught up).
    #[command(after_help = "Example:\n  muster operator raft add 4")]
    Add { id: u64 },
    /// Remove a manager for good: its id and certificate are refused from then on.
    #[command(after_help = "Example:\n  muster operator raft remove 2")]
    Remove {
        id: u64,
        /// Also if the rest would not be a healthy quorum.
        #[arg(long)]
        force: bool,
    },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let Self::Raft { command } = self;
        match command {
            Raft::Status { state_hash } => {
                let request = pb::RaftStatusRequest { state_hash };
                let answer =
                    context.operator_read(request, async |mut o, r| o.raft_status(r).await);
                status(context, &answer.await?)
            }
            Raft::Transfer { to } => {
                let request = pb::TransferLeadershipRequest { to };
                let answer = context
                    .operator(request, async |mut o, r| o.transfer_leadership(r).await)
                    .await?;
                match context.output {
                    Format::Json => output::json(&json::to_value(&answer)),
                    Format::Table => output::print(&format!("manager {} leads\n", answer.leader)),
                }
            }
            Raft::Add { id } => {
                let request = pb::AddManagerRequest { id };
                let answer =
                    context.operator(request, async |mut o, r| o.add_manager(r).await).await?;
                voters(context, &answer.voters)
            }
            Raft::Remove { id, force } => {
                let request = pb::RemoveManagerRequest { id, force };
                let answer =
                    context.operator(request, async |mut o, r| o.remove_manager(r).await).await?;
                voters(context, &answer.voters)
            }
        }
    }
}

fn voters(context: &Context, voters: &[u64]) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&serde_json::json!({ "voters": voters })),
        Format::Table => {
            let ids: Vec<_> = voters.iter().map(ToString::to_string).collect();
            output::print(&format!("voters: {}\n", ids.join(", ")))
        }
    }
}

fn status(context: &Context, status: &pb::RaftStatusResponse) -> Result<(), CliError> {
    if context.output == Format::Json {
        return output::json(&json::to_value(status));
    }
    let mut facts = vec![
        ("asked", format!("manager {}", status.id)),
        ("leader", status.leader.map_or("none".into(), |l| format!("manager {l}"))),
        ("term", status.term.to_string()),
        ("epoch", status.epoch.to_string()),
        ("log", format!("{} entries, {} KiB", status.last_log_index, status.log_bytes / 1024)),
        ("applied", status.applied_index.to_string()),
        ("snapshot", status.snapshot_index.to_string()),
    ];
    if !status.state_hash.is_empty() {
        facts.push(("state hash", status.state_hash.clone()));
    }
    output::print(&output::facts(&facts))?;
    output::print("\n")?;
    output::print(&output::table(
        &["ID", "NAME", "ZONE", "ADDRESS", "ROLE", "MATCHED", "ANSWERED"],
        status.members.iter().map(|m| {
            vec![
                m.id.to_string(),
                m.name.clone(),
                m.zone.clone(),
                m.address.clone(),
                m.role.clone(),
                m.matched_index.map(|i| i.to_string()).unwrap_or_default(),
                m.last_acknowledged_ms.map(|ms| format!("{ms} ms ago")).unwrap_or_default(),
            ]
        }),
    ))
}
