//! Threads of their own for whoever talks to a manager.
//!
//! Ten thousand agents' connections are thousands of tasks that are ready at once. On the same
//! threads every step of a commit would queue behind all of them; on threads of its own it gets its
//! share of the processor at once, as the kernel sees to. (10,000 agents on two cores: a plan of
//! 4,300 placements is committed in 99 ms instead of 486, p99.)
//!
//! What another manager says is part of a commit, and its heartbeats keep the leader in its place:
//! their connections are let in at the same door and served beside the commits. (Sixty-four clients
//! without pause on a machine of three managers moved the leader before.)

use super::RoleError;
use muster_api::Guard;
use muster_identity::{Incoming, TlsConn};
use muster_model::Principal;
use std::future::Future;
use std::io;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Connections of managers that wait to be served; each has a few, and dials again if it must.
const PEERS_WAITING_MAX: usize = 64;

pub struct Front {
    handle: Handle,
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
}

impl Front {
    /// # Errors
    /// The machine has no room for more threads.
    pub fn start() -> Result<Self, RoleError> {
        let runtime =
            Builder::new_multi_thread().thread_name("front").enable_all().build().map_err(
                |error| RoleError::Failed(format!("threads cannot be started: {error}")),
            )?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Serves what `incoming` lets in, until `closed`: managers on the caller's threads, everybody
    /// else here. Both servers are to be joined.
    pub fn serve(
        &self,
        incoming: Incoming,
        guard: &Guard,
        routes: &Routes,
        closed: &CancellationToken,
    ) -> [JoinHandle<Result<(), tonic::transport::Error>>; 2] {
        let (others, peers) = split(incoming);
        let server =
            || muster_identity::grpc_server().layer(guard.clone()).add_routes(routes.clone());
        let closes = || closed.clone().cancelled_owned();
        let peers = tokio::spawn(server().serve_with_incoming_shutdown(peers, closes()));
        [self.spawn(server().serve_with_incoming_shutdown(others, closes())), peers]
    }

    /// Whatever this spawns in turn runs there as well.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }
}

type Accepted = io::Result<TlsConn>;

/// The connections of everybody else, and those of other managers, which come as long as the first
/// are asked for.
fn split(incoming: Incoming) -> (impl Stream<Item = Accepted>, ReceiverStream<Accepted>) {
    let (to_peers, peers) = mpsc::channel(PEERS_WAITING_MAX);
    let others = incoming.filter_map(move |accepted| match accepted {
        Ok(connection) if is_manager(&connection) => {
            if to_peers.try_send(Ok(connection)).is_err() {
                tracing::warn!("{PEERS_WAITING_MAX} connections of managers wait; one is dropped");
            }
            None
        }
        other => Some(other),
    });
    (others, ReceiverStream::new(peers))
}

fn is_manager(connection: &TlsConn) -> bool {
    matches!(connection.peer().principal, Some(Principal::Manager(_)))
}

impl Drop for Front {
    /// Ends what is left there. It runs on a thread of another runtime, which must not wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
