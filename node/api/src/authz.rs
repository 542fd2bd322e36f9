//! May they? Pure: who the caller is and what the rpc declares give yes or no.
//!
//! It does not know how the caller was found out (`authn`) nor what the rpc does. Rows are not its
//! business either: an agent may call the dispatch rpcs, and they check whose rows it names.
//! Invariant: an rpc that is in no table is refused, whoever calls.

use muster_model::{Error, Holder, InstanceId, Principal, RaftId, TaskId, UserRole};
use muster_proto::convert::operator::user_role_name;
use muster_proto::error::to_status;
use muster_proto::pb::Auth;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::Status;

/// Who calls, as far as certificate and state say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No certificate.
    Nobody,
    User {
        name: String,
        role: UserRole,
    },
    Instance(InstanceId),
    Manager(RaftId),
    /// A task, with the credentials of its task role. It may what the role's policies allow.
    AssumedRole {
        role: String,
        task: TaskId,
    },
}

impl Caller {
    /// As AWS names users and assumed roles; `None` for who has no such name.
    pub fn arn(&self, account: &str) -> Option<String> {
        match self {
            Self::User { name, .. } => Some(format!("arn:aws:iam::{account}:user/{name}")),
            Self::AssumedRole { role, task } => {
                Some(format!("arn:aws:sts::{account}:assumed-role/{role}/{task}"))
            }
            Self::Nobody | Self::Instance(_) | Self::Manager(_) => None,
        }
    }

    /// Whose policies judge its requests.
    pub fn holders(&self) -> Vec<Holder> {
        match self {
            Self::User { name, role } => {
                vec![Holder::Role(*role), Holder::User(Arc::from(name.as_str()))]
            }
            Self::AssumedRole { role, .. } => vec![Holder::TaskRole(Arc::from(role.as_str()))],
            Self::Nobody | Self::Instance(_) | Self::Manager(_) => Vec::new(),
        }
    }

    /// Whether it may call what declares this before any policy is asked.
    pub fn may_unasked(&self, auth: Auth) -> bool {
        let Self::User { role, .. } = self else { return false };
        matches!(rule(auth), Some(Rule::User(least)) if rank(*role) >= rank(least))
    }

    /// Who an entry of the log is by; `None` without a certificate.
    pub fn principal(&self) -> Option<Principal> {
        match self {
            Self::Nobody => None,
            Self::User { name, .. } => Some(Principal::User(name.clone())),
            Self::Instance(id) => Some(Principal::Instance(*id)),
            Self::Manager(id) => Some(Principal::Manager(*id)),
            Self::AssumedRole { role, task } => {
                Some(Principal::AssumedRole { role: role.clone(), task: *task })
            }
        }
    }
}

/// Services that are not ours and so declare nothing.
const FOREIGN: [(&str, Rule); 3] = [
    // Load balancers and probes; answers serving or not serving and nothing else.
    ("/grpc.health.v1.Health/", Rule::Anyone),
    ("/grpc.reflection.v1.ServerReflection/", Rule::Certified),
    ("/grpc.reflection.v1alpha.ServerReflection/", Rule::Certified),
];

/// What a path demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// No certificate needed: the health probe, and joining, which brings a token.
    Anyone,
    /// Any certificate of this cluster.
    Certified,
    /// Users of at least this role.
    User(UserRole),
    Instance,
    Manager,
}

/// The rule of each rpc path (`/package.Service/Method`).
pub struct Rules {
    paths: HashMap<&'static str, Rule>,
}

impl Rules {
    pub fn new(policies: impl IntoIterator<Item = (&'static str, Auth)>) -> Self {
        let paths = policies.into_iter().filter_map(|(path, auth)| Some((path, rule(auth)?)));
        Self { paths: paths.collect() }
    }

    /// A name for metrics. Only names we know: strangers choose paths, and a label for each would
    /// fill the memory.
    pub fn label(&self, path: &str) -> &'static str {
        if let Some((known, _)) = self.paths.get_key_value(path) {
            return method(known);
        }
        let foreign = FOREIGN.iter().find(|(service, _)| path.starts_with(service));
        foreign.map_or("unknown", |(service, _)| service.trim_matches('/'))
    }

    /// `None`: unknown, so refused.
    pub fn of(&self, path: &str) -> Option<Rule> {
        let foreign = || FOREIGN.iter().find(|(service, _)| path.starts_with(service));
        self.paths.get(path).copied().or_else(|| foreign().map(|(_, rule)| *rule))
    }
}

/// `None` for what declares nothing.
fn rule(auth: Auth) -> Option<Rule> {
    Some(match auth {
        Auth::Unspecified => return None,
        Auth::UserRead => Rule::User(UserRole::ReadOnly),
        Auth::UserWrite => Rule::User(UserRole::Operator),
        Auth::Admin => Rule::User(UserRole::Admin),
        Auth::Instance => Rule::Instance,
        Auth::Manager => Rule::Manager,
        Auth::Token => Rule::Anyone,
        Auth::AnyCertificate => Rule::Certified,
    })
}

/// Whether `caller` may call `path`.
///
/// # Errors
/// `Unauthenticated` without a certificate, `PermissionDenied` for the wrong one; both say what
/// would help.
pub fn allow(path: &str, rule: Option<Rule>, caller: &Caller) -> Result<(), Status> {
    let Some(rule) = rule else {
        return Err(Status::permission_denied(format!(
            "{path} is not an rpc of this release: nobody may call it"
        )));
    };
    let allowed = match (rule, caller) {
        (Rule::Anyone, _) => true,
        (_, Caller::Nobody) => false,
        (Rule::Certified, _) => true,
        (Rule::User(least), Caller::User { role, .. }) => rank(*role) >= rank(least),
        (Rule::Instance, Caller::Instance(_)) | (Rule::Manager, Caller::Manager(_)) => true,
        (Rule::User(_) | Rule::Instance | Rule::Manager, _) => false,
    };
    match (allowed, caller) {
        (true, _) => Ok(()),
        (false, Caller::Nobody) => Err(Status::unauthenticated(format!(
            "{} needs a client certificate: machines get one by `muster join`, people by \
             `muster user create`",
            method(path)
        ))),
        (false, _) => Err(to_status(&denial(path, rule, caller))),
    }
}

fn denial(path: &str, rule: Rule, caller: &Caller) -> Error {
    let method = method(path);
    let principal = caller.principal().map_or_else(String::new, |p| p.to_string());
    let action = match (rule, caller) {
        (Rule::User(least), Caller::User { role, .. }) => format!(
            "call {method}: it needs the role {}, and this user has {}",
            user_role_name(least),
            user_role_name(*role)
        ),
        (Rule::User(_), Caller::AssumedRole { role, .. }) => format!(
            "call {method}: a task may what a policy of its role allows, and none allows this; an \
             administrator can run `muster policy put NAME --task-role {role}`"
        ),
        (Rule::User(_), _) => format!("call {method}: it is for users"),
        (Rule::Instance, _) => format!("call {method}: it is for container instances"),
        (Rule::Manager, _) => format!("call {method}: it is for managers"),
        (Rule::Anyone | Rule::Certified, _) => format!("call {method}"),
    };
    Error::Denied { principal, action }
}

/// The method's name alone.
pub fn method(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether policies decide about this path too. Its handlers ask them, with the request in hand.
pub fn by_policy(path: &str) -> bool {
    path.starts_with("/muster.v1.Ecs/") || path.starts_with("/muster.v1.Live/")
}

/// Roles contain each other.
fn rank(role: UserRole) -> u8 {
    match role {
        UserRole::Restricted => 0,
        UserRole::ReadOnly => 1,
        UserRole::Operator => 2,
        UserRole::Admin => 3,
    }
}
