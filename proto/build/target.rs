//! What each rpc that policies decide about acts on, as Rust source: its action's name, and the
//! fields of its request that name resources, the cluster and tags.
//!
//! The fields' names say it: they are ECS's own. A test records what comes out, so that a new rpc
//! is looked at once. Invariant: an rpc of `Live` that names no action fails the build.

use prost_reflect::{Cardinality, DescriptorPool, Kind, MessageDescriptor, Value};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

/// The services whose rpcs policies decide about, and what their actions begin with unless the rpc
/// says another. The managers' own rpcs stay the roles': no policy locks the administrators out.
const SERVICES: [(&str, Option<&str>); 2] =
    [("muster.v1.Ecs", Some("ecs")), ("muster.v1.Live", None)];

/// Fields that name what is acted on, the most telling first: CreateService has a task definition
/// too, and RunTask a cluster. As in IAM's reference of ECS's actions.
const FIELDS: [(&str, &str); 16] = [
    ("resource_arn", "Named"),
    ("service_deployment_arn", "Named"),
    ("service_deployment_arns", "Named"),
    ("service_revision_arns", "Named"),
    ("service", "Service"),
    ("services", "Service"),
    ("service_name", "Service"),
    ("task", "Task"),
    ("tasks", "Task"),
    ("task_definition", "Definition"),
    ("task_definitions", "Definition"),
    ("family", "Family"),
    ("container_instance", "Instance"),
    ("container_instances", "Instance"),
    ("cluster", "Cluster"),
    ("clusters", "Cluster"),
];

/// Capacity providers are named differently from request to request, and a cluster's lists of them
/// are not what is acted on.
const OF_PROVIDERS: [(&str, &str); 4] = [
    ("CreateCapacityProviderRequest", "name"),
    ("UpdateCapacityProviderRequest", "name"),
    ("DeleteCapacityProviderRequest", "capacity_provider"),
    ("DescribeCapacityProvidersRequest", "capacity_providers"),
];

/// Lists act on the cluster that they are of; what else they name only narrows them.
const OF_LISTS: [&str; 3] = ["resource_arn", "cluster", "clusters"];

/// Without a cluster this means every one, not `default`.
const EVERY_CLUSTER: &str = "WatchRequest";

/// One rpc.
pub struct Declared {
    pub rpc: String,
    pub action: String,
    /// The kind of what is acted on, and the field that names it.
    pub on: Option<(&'static str, String)>,
    pub cluster: bool,
    pub tags: bool,
    request: MessageDescriptor,
    many: bool,
    auth: String,
}

pub fn declared(pool: &DescriptorPool) -> Result<Vec<Declared>, Box<dyn Error>> {
    let mut all = Vec::new();
    for (name, prefix) in SERVICES {
        let Some(service) = pool.get_service_by_name(name) else { continue };
        for method in service.methods() {
            let rpc = method.full_name().to_owned();
            let said = text_option(pool, &method.options())?;
            let action = match (said, prefix) {
                (Some(action), _) => action,
                (None, Some(prefix)) => format!("{prefix}:{}", method.name()),
                (None, None) => {
                    return Err(format!("rpc {rpc} does not set (muster.v1.action)").into());
                }
            };
            let auth = super::policy::option(pool, &method.options(), "muster.v1.auth", &rpc)?;
            // A stream of input says first, in its `Start`, what it is about.
            let request = match method.is_client_streaming() {
                true => start(&method.input())?,
                false => method.input(),
            };
            all.push(of(rpc, action, request, auth));
        }
    }
    Ok(all)
}

fn of(rpc: String, action: String, request: MessageDescriptor, auth: String) -> Declared {
    let list = rpc.rsplit('.').next().is_some_and(|method| method.starts_with("List"));
    let provider = OF_PROVIDERS.iter().filter(|(of, _)| *of == request.name());
    let provider = provider.map(|(_, field)| (*field, "CapacityProvider"));
    let of_account = OF_PROVIDERS.iter().any(|(of, _)| *of == request.name());
    let found = provider.chain(FIELDS).find_map(|(name, kind)| {
        let field = request.get_field_by_name(name)?;
        let telling = field.kind() == Kind::String && (!list || OF_LISTS.contains(&name));
        telling.then_some((kind, field))
    });
    let many = found.as_ref().is_some_and(|(_, f)| f.cardinality() == Cardinality::Repeated);
    let on = found.map(|(kind, field)| match (kind, request.name()) {
        ("Cluster", EVERY_CLUSTER) => ("ClusterOrAll", field.name().to_owned()),
        (kind, _) => (kind, field.name().to_owned()),
    });
    // No cluster means none there, not `default`.
    let cluster = request.get_field_by_name("cluster").is_some_and(|f| f.kind() == Kind::String);
    let cluster = cluster && !of_account;
    let tags = request.get_field_by_name("tags").is_some_and(|field| {
        field.kind().as_message().is_some_and(|message| message.name() == "Tag")
    });
    Declared { rpc, action, on, cluster, tags, request, many, auth }
}

fn start(input: &MessageDescriptor) -> Result<MessageDescriptor, Box<dyn Error>> {
    let mut nested = input.child_messages();
    let start = nested.find(|message| message.name() == "Start");
    start.ok_or_else(|| format!("{} has no Start", input.full_name()).into())
}

fn text_option(
    pool: &DescriptorPool,
    options: &prost_reflect::DynamicMessage,
) -> Result<Option<String>, Box<dyn Error>> {
    let extension = pool.get_extension_by_name("muster.v1.action").ok_or("no option action")?;
    Ok(match options.get_extension(&extension).as_ref() {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    })
}

/// An `Acts` for each request, and the list of actions; several rpcs may share a request.
pub fn targets(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    let mut actions = String::from("const OURS: &[&str] = &[");
    let mut known = BTreeMap::new();
    for rpc in declared(pool)? {
        // To ask what a request would do is to be permitted the request.
        let meant = (rpc.action.clone(), rpc.auth.clone());
        match known.insert(rust_path(&rpc.request), meant.clone()) {
            None => {}
            Some(before) if before == meant => continue,
            Some(_) => {
                let why = "another rpc gives its request another action, or other callers";
                return Err(format!("rpc {}: {why}", rpc.rpc).into());
            }
        }
        write!(actions, "{:?}, ", rpc.action)?;
        let (kind, names) = match &rpc.on {
            None => ("Everything", "Names::None".to_owned()),
            Some((kind, field)) if rpc.many => (*kind, format!("Names::Many(&self.{field})")),
            Some((kind, field)) => (*kind, format!("Names::One(&self.{field})")),
        };
        let cluster = if rpc.cluster { "Some(&self.cluster)" } else { "None" };
        let tags = if rpc.tags { "&self.tags" } else { "&[]" };
        writeln!(
            code,
            "/// `{}`\nimpl Acts for crate::pb::{} {{ const ACTION: &'static str = {:?}; \
             const AUTH: crate::pb::Auth = crate::pb::Auth::{}; \
             fn target(&self) -> Target<'_> {{ Target {{ on: On::{kind}, names: {names}, \
             cluster: {cluster}, request_tags: {tags} }} }} }}",
            rpc.rpc,
            rust_path(&rpc.request),
            rpc.action,
            rpc.auth,
        )?;
    }
    actions.push_str("];\n");
    Ok(code + &actions)
}

/// A nested message stands in a module that prost names after its parent.
fn rust_path(message: &MessageDescriptor) -> String {
    let Some(parent) = message.parent_message() else { return message.name().to_owned() };
    let mut module = String::new();
    for letter in parent.name().chars() {
        if letter.is_uppercase() && !module.is_empty() {
            module.push('_');
        }
        module.extend(letter.to_lowercase());
    }
    format!("{module}::{}", message.name())
}
