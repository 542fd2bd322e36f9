//! `muster capacity-provider`: what clusters name as their capacity. Kept and shown; nothing is
//! started or placed by them.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Subcommand;
use muster_proto::pb;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a provider of an Auto Scaling group.
    #[command(after_help = "Examples:\n  muster capacity-provider create spot --group \
        arn:aws:autoscaling:local:000000000000:autoScalingGroup:1:autoScalingGroupName/spot\n  \
        muster capacity-provider create spot --group ARN --managed-scaling ENABLED \
        --target-capacity 90")]
    Create {
        /// Up to 255 letters, digits, - and _; not beginning with aws, ecs or fargate.
        name: String,
        /// ARN of the Auto Scaling group.
        #[arg(long = "group", value_name = "ARN")]
        group: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// All providers, ECS's own among them.
    #[command(after_help = "Example:\n  muster capacity-provider list --output json")]
    List,
    /// One provider, by name or ARN.
    #[command(after_help = "Example:\n  muster capacity-provider describe spot")]
    Describe { name: String },
    /// Change settings; those that are not named stay as they are.
    #[command(after_help = "Example:\n  muster capacity-provider update spot --managed-draining \
        DISABLED --target-capacity 80")]
    Update {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Remove a provider that no cluster has.
    #[command(after_help = "Example:\n  muster capacity-provider delete spot")]
    Delete { name: String },
}

/// What can be set of a provider, by ECS's names.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Settings {
    /// ENABLED or DISABLED.
    #[arg(long, value_name = "STATUS")]
    managed_scaling: Option<String>,
    /// Percent of the group's capacity to be in use, 1 to 100.
    #[arg(long, value_name = "PERCENT")]
    target_capacity: Option<i32>,
    /// Fewest instances that one step starts, 1 to 10000.
    #[arg(long, value_name = "INSTANCES")]
    minimum_scaling_step_size: Option<i32>,
    /// Most instances that one step starts, 1 to 10000.
    #[arg(long, value_name = "INSTANCES")]
    maximum_scaling_step_size: Option<i32>,
    /// Seconds until a new instance counts, 0 to 10000.
    #[arg(long, value_name = "SECONDS")]
    instance_warmup_period: Option<i32>,
    /// ENABLED or DISABLED; ENABLED needs managed scaling.
    #[arg(long, value_name = "STATUS")]
    managed_termination_protection: Option<String>,
    /// ENABLED or DISABLED.
    #[arg(long, value_name = "STATUS")]
    managed_draining: Option<String>,
}

impl Settings {
    /// None if nothing is said of scaling.
    fn scaling(&self) -> Option<pb::ManagedScaling> {
        let scaling = pb::ManagedScaling {
            status: self.managed_scaling.clone().unwrap_or_default(),
            target_capacity: self.target_capacity,
            minimum_scaling_step_size: self.minimum_scaling_step_size,
            maximum_scaling_step_size: self.maximum_scaling_step_size,
            instance_warmup_period: self.instance_warmup_period,
        };
        (scaling != pb::ManagedScaling::default()).then_some(scaling)
    }
}

impl Command {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create { name, group, settings } => create(context, name, group, settings).await,
            Self::List => show(context, &list(context).await?),
            Self::Describe { name } => {
                let found = describe(context, name).await?;
                match context.output {
                    Format::Json => show(context, &found),
                    Format::Table => found.iter().try_for_each(facts),
                }
            }
            Self::Update { name, settings } => update(context, name, settings).await,
            Self::Delete { name } => {
                let request = pb::DeleteCapacityProviderRequest {
                    capacity_provider: name,
                    client_token: context.token(),
                    ..Default::default()
                };
                let answer =
                    context.ecs(request, async |mut ecs, r| ecs.delete_capacity_provider(r).await);
                one(context, answer.await?.capacity_provider)
            }
        }
    }
}

async fn create(
    context: &Context,
    name: String,
    group: String,
    settings: Settings,
) -> Result<(), CliError> {
    let group = pb::AutoScalingGroupProvider {
        auto_scaling_group_arn: group,
        managed_scaling: settings.scaling(),
        managed_termination_protection: settings.managed_termination_protection.unwrap_or_default(),
        managed_draining: settings.managed_draining.unwrap_or_default(),
    };
    let request = pb::CreateCapacityProviderRequest {
        name,
        auto_scaling_group_provider: Some(group),
        client_token: context.token(),
        ..Default::default()
    };
    let answer = context.ecs(request, async |mut ecs, r| ecs.create_capacity_provider(r).await);
    one(context, answer.await?.capacity_provider)
}

async fn update(context: &Context, name: String, settings: Settings) -> Result<(), CliError> {
    if settings == Settings::default() {
        let why = "nothing to change; name a setting, as in --target-capacity 80";
        return Err(CliError::Usage(why.into()));
    }
    let group = pb::AutoScalingGroupProviderUpdate {
        managed_scaling: settings.scaling(),
        managed_termination_protection: settings.managed_termination_protection.unwrap_or_default(),
        managed_draining: settings.managed_draining.unwrap_or_default(),
    };
    let request = pb::UpdateCapacityProviderRequest {
        name,
        auto_scaling_group_provider: Some(group),
        client_token: context.token(),
        ..Default::default()
    };
    let answer = context.ecs(request, async |mut ecs, r| ecs.update_capacity_provider(r).await);
    one(context, answer.await?.capacity_provider)
}

async fn list(context: &Context) -> Result<Vec<pb::CapacityProvider>, CliError> {
    let mut providers = Vec::new();
    let mut next_token = String::new();
    loop {
        let request = pb::DescribeCapacityProvidersRequest {
            include: vec!["TAGS".into()],
            next_token,
            stale: context.stale,
            ..Default::default()
        };
        let answer =
            context.ecs(request, async |mut ecs, r| ecs.describe_capacity_providers(r).await);
        let page = answer.await?;
        providers.extend(page.capacity_providers);
        if page.next_token.is_empty() {
            return Ok(providers);
        }
        next_token = page.next_token;
    }
}

async fn describe(context: &Context, name: String) -> Result<Vec<pb::CapacityProvider>, CliError> {
    let request = pb::DescribeCapacityProvidersRequest {
        capacity_providers: vec![name],
        include: vec!["TAGS".into()],
        stale: context.stale,
        ..Default::default()
    };
    let answer = context.ecs(request, async |mut ecs, r| ecs.describe_capacity_providers(r).await);
    let answer = answer.await?;
    context.check("capacity provider", &answer.failures)?;
    Ok(answer.capacity_providers)
}

fn one(context: &Context, provider: Option<pb::CapacityProvider>) -> Result<(), CliError> {
    show(context, &provider.into_iter().collect::<Vec<_>>())
}

fn show(context: &Context, providers: &[pb::CapacityProvider]) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&context.list("capacityProviders", providers)),
        Format::Table => output::print(&output::table(
            &["NAME", "STATUS", "SCALING", "TARGET", "GROUP"],
            providers.iter().map(|row| {
                let group = row.auto_scaling_group_provider.clone().unwrap_or_default();
                let scaling = group.managed_scaling.unwrap_or_default();
                vec![
                    row.name.clone(),
                    row.status.clone(),
                    scaling.status,
                    scaling.target_capacity.map(percent).unwrap_or_default(),
                    group.auto_scaling_group_arn,
                ]
            }),
        )),
    }
}

fn facts(row: &pb::CapacityProvider) -> Result<(), CliError> {
    let group = row.auto_scaling_group_provider.clone().unwrap_or_default();
    let scaling = group.managed_scaling.unwrap_or_default();
    let number = |number: Option<i32>| number.map(|n| n.to_string()).unwrap_or_default();
    let tags: Vec<_> = row.tags.iter().map(|tag| format!("{}={}", tag.key, tag.value)).collect();
    output::print(&output::facts(&[
        ("name", row.name.clone()),
        ("arn", row.capacity_provider_arn.clone()),
        ("status", row.status.clone()),
        ("last update", row.update_status.clone()),
        ("group", group.auto_scaling_group_arn),
        ("managed scaling", scaling.status),
        ("target capacity", scaling.target_capacity.map(percent).unwrap_or_default()),
        ("minimum step, instances", number(scaling.minimum_scaling_step_size)),
        ("maximum step, instances", number(scaling.maximum_scaling_step_size)),
        ("warm-up, seconds", number(scaling.instance_warmup_period)),
        ("termination protection", group.managed_termination_protection),
        ("managed draining", group.managed_draining),
        ("tags", tags.join(", ")),
    ]))
}

fn percent(number: i32) -> String {
    format!("{number} %")
}
