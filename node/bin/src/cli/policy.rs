//! `muster policy`: who may do what to which clusters, services and tasks, in IAM's language.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use super::taskdef::read;
use clap::{Args, Subcommand};
use muster_proto::{json, pb};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach a policy to a user, a role or a task role; replaces the one of this name.
    #[command(
        after_help = "Example, a user who may do everything in the cluster blue, and write task\n\
        definitions, which are of no cluster:\n  \
        muster user create ann --role restricted --out ./ann\n  \
        muster policy put blue --user ann --file blue.json\n\n\
        blue.json:\n  \
        {\"Version\": \"2012-10-17\", \"Statement\": [\n  \
        {\"Effect\": \"Allow\", \"Action\": [\"ecs:*\", \"muster:*\"], \"Resource\": \"*\",\n   \
        \"Condition\": {\"ArnLike\": {\"ecs:cluster\": \"arn:aws:ecs:*:*:cluster/blue\"}}},\n  \
        {\"Effect\": \"Allow\", \"Action\": \"ecs:*TaskDefinition*\", \"Resource\": \"*\"}]}\n\n\
        Example, what tasks may do whose definition has the taskRoleArn\n\
        arn:aws:iam::000000000000:role/scaler:\n  \
        muster policy put scale --task-role scaler --file scale.json"
    )]
    Put {
        name: String,
        #[command(flatten)]
        holder: Holder,
        /// An IAM policy in JSON (- reads standard input).
        #[arg(long)]
        file: PathBuf,
    },
    /// Policies of a user, of a role, of a task role, or all.
    #[command(after_help = "Example:\n  muster policy list --user ann")]
    List {
        #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "role")]
        user: String,
        /// admin, operator, read-only or restricted.
        #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "task_role")]
        role: String,
        /// A role that task definitions name.
        #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "user")]
        task_role: String,
    },
    /// The document of one policy.
    #[command(after_help = "Example:\n  muster policy show blue --user ann")]
    Show {
        name: String,
        #[command(flatten)]
        holder: Holder,
    },
    /// Take a policy away.
    #[command(after_help = "Example:\n  muster policy delete blue --user ann")]
    Delete {
        name: String,
        #[command(flatten)]
        holder: Holder,
    },
}

/// Whose policy it is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Holder {
    /// The user it is attached to.
    #[arg(long, default_value = "", hide_default_value = true)]
    user: String,
    /// The role it is attached to: admin, operator, read-only or restricted.
    #[arg(long, default_value = "", hide_default_value = true)]
    role: String,
    /// The role of tasks it is attached to: the name in their definition's taskRoleArn.
    #[arg(long, default_value = "", hide_default_value = true)]
    task_role: String,
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Put { name, holder: Holder { user, role, task_role }, file } => {
                let (document, client_token) = (read(&file)?, context.token());
                let request =
                    pb::PutPolicyRequest { name, user, role, document, task_role, client_token };
                let answer =
                    context.operator(request, async |mut o, r| o.put_policy(r).await).await?;
                done(context, answer.policy.unwrap_or_default(), "is attached to")
            }
            Self::List { user, role, task_role } => {
                let stale = context.stale;
                let request = pb::ListPoliciesRequest { user, role, task_role, stale };
                let answer = context
                    .operator_read(request, async |mut o, r| o.list_policies(r).await)
                    .await?;
                list(context, &answer)
            }
            Self::Show { name, holder: Holder { user, role, task_role } } => {
                let stale = context.stale;
                let request = pb::GetPolicyRequest { name, user, role, task_role, stale };
                let answer =
                    context.operator_read(request, async |mut o, r| o.get_policy(r).await).await?;
                let policy = answer.policy.unwrap_or_default();
                match context.output {
                    Format::Json => output::json(&json::to_value(&policy)),
                    Format::Table => output::print(&format!("{}\n", policy.document.trim_end())),
                }
            }
            Self::Delete { name, holder: Holder { user, role, task_role } } => {
                let request = pb::DeletePolicyRequest {
                    name: name.clone(),
                    user: user.clone(),
                    role: role.clone(),
                    task_role: task_role.clone(),
                    client_token: context.token(),
                };
                context.operator(request, async |mut o, r| o.delete_policy(r).await).await?;
                let gone = pb::PolicyRow { name, user, role, task_role, ..Default::default() };
                done(context, gone, "is taken from")
            }
        }
    }
}

fn holder(row: &pb::PolicyRow) -> String {
    match (row.user.as_str(), row.role.as_str()) {
        ("", "") => format!("task role {}", row.task_role),
        ("", role) => format!("role {role}"),
        (user, _) => format!("user {user}"),
    }
}

fn done(context: &Context, row: pb::PolicyRow, what: &str) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&json::to_value(&row)),
        Format::Table => output::print(&format!("policy {} {what} {}\n", row.name, holder(&row))),
    }
}

fn list(context: &Context, answer: &pb::ListPoliciesResponse) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&json::to_value(answer)),
        Format::Table => output::print(&output::table(
            &["NAME", "HOLDER", "CREATED", "CHANGED"],
            answer.policies.iter().map(|row| {
                vec![
                    row.name.clone(),
                    holder(row),
                    output::time(row.created_at.as_ref()),
                    output::time(row.updated_at.as_ref()),
                ]
            }),
        )),
    }
}
