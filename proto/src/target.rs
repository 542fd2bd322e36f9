//! What a request acts on, read off its fields by `build/target.rs`: names as they were written.
//!
//! It resolves nothing and judges nothing: that is `node/api`'s, by policies.

use crate::pb;

/// A request of an rpc that policies decide about.
pub trait Acts {
    /// Its name in policies, for example `ecs:RunTask`.
    const ACTION: &'static str;
    /// What the rpc declares: the least role that may call it without any policy.
    const AUTH: pb::Auth;

    fn target(&self) -> Target<'_>;
}

/// What one request acts on.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub on: On,
    pub names: Names<'a>,
    /// The request's `cluster`, if it has the field; empty means `default`.
    pub cluster: Option<&'a str>,
    pub request_tags: &'a [pb::Tag],
}

/// As what the names are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Nothing that has an ARN.
    Everything,
    Cluster,
    /// As `Cluster`, but an empty name means all of them.
    ClusterOrAll,
    Service,
    Task,
    Instance,
    Definition,
    CapacityProvider,
    /// A family that gets a new revision.
    Family,
    /// Whatever an ARN names.
    Named,
}

#[derive(Clone, Copy, Debug)]
pub enum Names<'a> {
    None,
    One(&'a str),
    Many(&'a [String]),
}

impl<'a> Names<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let (one, many): (Option<&str>, &[String]) = match self {
            Self::None => (None, &[]),
            Self::One(name) => (Some(name), &[]),
            Self::Many(names) => (None, names),
        };
        one.into_iter().chain(many.iter().map(String::as_str))
    }
}

include!(concat!(env!("OUT_DIR"), "/targets.rs"));

/// ECS's operations, those that this release does not answer too: policies that name them are as
/// good here as there.
const ECS: &str = "
    ContinueServiceDeployment CreateCapacityProvider CreateCluster CreateService CreateTaskSet
    DeleteAccountSetting DeleteAttributes DeleteCapacityProvider DeleteCluster DeleteService
    DeleteTaskDefinitions DeleteTaskSet DeregisterContainerInstance DeregisterTaskDefinition
    DescribeCapacityProviders DescribeClusters DescribeContainerInstances
    DescribeServiceDeployments DescribeServiceRevisions DescribeServices DescribeTaskDefinition
    DescribeTaskSets DescribeTasks DiscoverPollEndpoint ExecuteCommand GetTaskProtection
    ListAccountSettings ListAttributes ListClusters ListContainerInstances ListServiceDeployments
    ListServices ListServicesByNamespace ListTagsForResource ListTaskDefinitionFamilies
    ListTaskDefinitions ListTasks Poll PutAccountSetting PutAccountSettingDefault PutAttributes
    PutClusterCapacityProviders RegisterContainerInstance RegisterTaskDefinition RunTask
    StartTask StartTelemetrySession StopServiceDeployment StopTask SubmitAttachmentStateChanges
    SubmitContainerStateChange SubmitTaskStateChange TagResource UntagResource
    UpdateCapacityProvider UpdateCluster UpdateClusterSettings UpdateContainerAgent
    UpdateContainerInstancesState UpdateService UpdateServicePrimaryTaskSet UpdateTaskProtection
    UpdateTaskSet";

/// Every action that a policy may name.
pub fn actions() -> impl Iterator<Item = String> {
    let ecs = ECS.split_whitespace().map(|operation| format!("ecs:{operation}"));
    OURS.iter().map(|action| (*action).to_owned()).chain(ecs)
}
