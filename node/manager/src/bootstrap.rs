//! What `muster init` and `muster dev` decide: the authority, the first manager and administrator,
//! both join tokens, and the log's first entry that says so.
//!
//! It writes nothing: the caller saves the identities and proposes the command.

use crate::limits::{CERTIFICATE_VALIDITY, USER_VALIDITY};
use crate::wire::system_time;
use muster_identity::{
    Authority, Error, Identity, IdentityPem, JoinRole, JoinToken, new_key_and_csr,
};
use muster_model::command::Bootstrap;
use muster_model::{ClusterId, Command, IdSource, Manager, Principal, RaftId, Time};
use std::time::Duration;

/// The Raft id of the manager that a cluster begins with; later ones are given out by the log.
pub const FIRST_MANAGER: RaftId = RaftId(1);

/// What the user says about a new cluster and its first manager.
#[derive(Clone, Debug)]
pub struct Founding {
    /// Name of the whole: shown, and part of the authority's name. 1 to 64 bytes.
    pub name: String,
    /// Account id (12 digits) and region that ARNs carry.
    pub account: String,
    pub region: String,
    /// The first manager: its name, zone and the host:port at which it is reached.
    pub manager: String,
    pub zone: String,
    pub address: String,
    /// The newest command level this binary can apply.
    pub level: u32,
    /// Name of the first administrator.
    pub admin: String,
}

/// A cluster that is decided, but not yet founded. Holds secrets: do not print it.
pub struct Founded {
    /// The log's first entry.
    pub command: Command,
    pub manager: Identity,
    pub admin: Identity,
    pub manager_token: JoinToken,
    pub worker_token: JoinToken,
    pub default_cluster: ClusterId,
}

/// Decides a new cluster.
///
/// # Errors
/// When a name is not allowed in a certificate, or the machine gives no random bytes.
pub fn bootstrap_command(founding: &Founding, now: Time) -> Result<Founded, Error> {
    let wall = system_time(now);
    let authority = Authority::create(&founding.name, wall)?;
    let identity = |principal: Principal, validity: Duration| {
        let (key, csr) = new_key_and_csr()?;
        let issued = authority.issue(&csr, &principal, validity, wall)?;
        let ca = authority.cert_pem().to_owned();
        Identity::from_pem(IdentityPem { ca, cert: issued.cert_pem, key })
    };
    let manager = identity(Principal::Manager(FIRST_MANAGER), CERTIFICATE_VALIDITY)?;
    let admin = identity(Principal::User(founding.admin.clone()), USER_VALIDITY)?;
    let manager_token = JoinToken::generate(JoinRole::Manager, authority.digest())?;
    let worker_token = JoinToken::generate(JoinRole::Worker, authority.digest())?;
    let default_cluster = IdSource::new(rand::random()).cluster();
    let bootstrap = Bootstrap {
        name: founding.name.as_str().into(),
        account: founding.account.as_str().into(),
        region: founding.region.as_str().into(),
        default_cluster,
        authority: muster_model::Authority {
            certificate_pem: authority.cert_pem().into(),
            key_pem: authority.key_pem().into(),
            manager_token_hash: manager_token.secret_hash().into(),
            worker_token_hash: worker_token.secret_hash().into(),
        },
        manager: Manager {
            id: FIRST_MANAGER,
            name: founding.manager.as_str().into(),
            zone: founding.zone.as_str().into(),
            address: founding.address.as_str().into(),
            level: founding.level,
            joined_at: now,
            removed_at: None,
        },
        admin: founding.admin.as_str().into(),
        admin_serial: admin.serial().into(),
    };
    let command = Command::Bootstrap(Box::new(bootstrap));
    Ok(Founded { command, manager, admin, manager_token, worker_token, default_cluster })
}
