//! Which operations there are, and how each goes from JSON to its dispatcher's method and back.
//!
//! The table comes from the `.proto` (`muster_proto::ecs_operations`). It holds no rule.

use super::refusal::Refusal;
use crate::call::Call;
use crate::dispatcher::Dispatcher;
use muster_proto::{json, pb};
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Refusal>> + Send + 'a>>;

/// One operation.
#[derive(Debug)]
pub struct Operation {
    pub name: &'static str,
    /// Its rpc, by which policy and metrics know it.
    pub path: &'static str,
    run: for<'a> fn(&'a Arc<Dispatcher>, &'a Call, &'a [u8]) -> Answering<'a>,
}

impl Operation {
    pub fn run<'a>(
        &self,
        dispatcher: &'a Arc<Dispatcher>,
        call: &'a Call,
        body: &'a [u8],
    ) -> Answering<'a> {
        (self.run)(dispatcher, call, body)
    }
}

/// What a name stands for.
#[derive(Debug)]
pub enum Target {
    Built(&'static Operation),
    /// ECS has it and this release does not.
    NotBuilt {
        name: &'static str,
        why: &'static str,
    },
}

impl Target {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Built(operation) => operation.name,
            Self::NotBuilt { name, .. } => name,
        }
    }
}

/// `None` for a name that ECS does not have either.
pub fn find(name: &str) -> Option<Target> {
    let built = OPERATIONS.iter().find(|operation| operation.name == name).map(Target::Built);
    built.or_else(|| {
        let (name, why) = json::NOT_BUILT_OPERATIONS.iter().find(|(absent, _)| *absent == name)?;
        Some(Target::NotBuilt { name, why })
    })
}

macro_rules! table {
    ($($name:ident $method:ident $request:ident $response:ident;)*) => {
        static OPERATIONS: &[Operation] = &[$(
            Operation {
                name: stringify!($name),
                path: concat!("/muster.v1.Ecs/", stringify!($name)),
                run: |dispatcher, call, body| Box::pin(async move {
                    let request: pb::$request = json::from_ecs(body).map_err(Refusal::undecodable)?;
                    dispatcher.permit(call, &request).await?;
                    let answer: pb::$response = dispatcher.$method(call, request).await?;
                    encode(&answer)
                }),
            },
        )*];
    };
}
muster_proto::ecs_operations!(table);

fn encode(answer: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(answer).map_err(|error| Refusal::server(format!("encoding: {error}")))
}
