//! `muster user`: people and programs that may call the cluster, each with a certificate.

use super::CliError;
use super::context::{self, Context};
use super::output::{self, Format};
use clap::Subcommand;
use muster_identity::{Identity, IdentityPem};
use muster_proto::{json, pb};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a user, or a further certificate for one; the key never leaves this machine.
    #[command(
        after_help = "Example:\n  muster user create ci --role operator --out ./ci-identity\n  \
        muster --identity ./ci-identity service list"
    )]
    Create {
        name: String,
        /// admin; operator (all but managers, tokens, users); read-only; restricted (only what
        /// its policies allow, see `muster policy`).
        #[arg(long, default_value = "operator")]
        role: String,
        /// Directory for ca.pem, cert.pem, key.pem and the managers' addresses.
        #[arg(long)]
        out: PathBuf,
        /// Days until the certificate ends, at most 365.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i64).range(1..=365))]
        days: i64,
    },
    /// Users and how many certificates each has.
    #[command(after_help = "Example:\n  muster user list")]
    List,
    /// Refuse a user's certificates from now on.
    #[command(after_help = "Example:\n  muster user remove ci")]
    Remove { name: String },
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create { name, role, out, days } => {
                crate::roles::refuse_identity(&out)?;
                let (key_pem, certificate_request_pem) = muster_identity::new_key_and_csr()?;
                let request = pb::CreateUserRequest {
                    name: name.clone(),
                    role,
                    certificate_request_pem,
                    validity_seconds: days.saturating_mul(24 * 3600),
                    client_token: context.token(),
                };
                let answer =
                    context.operator(request, async |mut o, r| o.create_user(r).await).await?;
                let pem =
                    IdentityPem { ca: answer.ca_pem, cert: answer.certificate_pem, key: key_pem };
                Identity::from_pem(pem)?.save(&out)?;
                context::write_managers(&out, &context.managers)?;
                match context.output {
                    Format::Json => {
                        output::json(&serde_json::json!({ "name": name, "identity": out }))
                    }
                    Format::Table => output::print(&format!(
                        "{name}'s certificate is in {0}; use it with --identity {0}\n",
                        out.display()
                    )),
                }
            }
            Self::List => {
                let request = pb::ListUsersRequest { stale: context.stale };
                let answer =
                    context.operator_read(request, async |mut o, r| o.list_users(r).await).await?;
                match context.output {
                    Format::Json => output::json(&json::to_value(&answer)),
                    Format::Table => output::print(&output::table(
                        &["NAME", "ROLE", "CREATED", "CERTIFICATES"],
                        answer.users.iter().map(|u| {
                            vec![
                                u.name.clone(),
                                u.role.clone(),
                                output::time(u.created_at.as_ref()),
                                u.serials.len().to_string(),
                            ]
                        }),
                    )),
                }
            }
            Self::Remove { name } => {
                let request =
                    pb::RemoveUserRequest { name: name.clone(), client_token: context.token() };
                context.operator(request, async |mut o, r| o.remove_user(r).await).await?;
                match context.output {
                    Format::Json => output::json(&serde_json::json!({ "removed": name })),
                    Format::Table => output::print(&format!("{name} is refused from now on\n")),
                }
            }
        }
    }
}
