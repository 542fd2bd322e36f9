//! Who is who in a Muster cluster: the certificate authority, join tokens, access keys, sessions of
//! tasks, and the TLS 1.3 acceptor and connector under every gRPC socket.
//!
//! It decides how a [`Principal`](muster_model::Principal) is written into a certificate and read
//! back, and whom a handshake lets in. It does not know what a principal may do (the rpcs decide
//! that), where the authority's key is kept, or what is served on a connection.
//!
//! Invariants:
//! - A connection carries a principal only if its certificate was signed by the cluster's
//!   authority and was valid, by this machine's wall clock, when the connection was made; the
//!   connection ends when that certificate does.
//! - Clients verify the name `manager.muster`, never an address, so addresses may change and
//!   neither an agent nor a user can pass for a manager.
//! - No secret (key, token) is printed by `Debug` or named in an error.
//!
//! Clocks: validity is judged at each handshake by the process's own clock (`clock.rs`): the wall
//! clock at start plus monotonic time, so a wall clock that jumps changes nothing. Certificates
//! start [`limits::BACKDATE`] (5 minutes) before they are issued, so machines whose clocks differ
//! by less understand each other at once.

pub mod access_key;
pub mod authority;
pub mod client;
mod clock;
mod digest;
pub mod error;
mod files;
pub mod identity;
pub mod limits;
mod pem;
pub mod server;
mod session;
mod signing;
mod subject;
mod tls;
pub mod token;
mod vault;
mod web;

pub use authority::{Authority, IssuedCert, IssuedWeb, new_key_and_csr};
pub use client::{ConnectOptions, Connector, check_address};
pub use digest::CaDigest;
pub use error::Error;
pub use identity::{Identity, IdentityPem};
pub use server::{
    Incoming, Options, Peer, TlsConn, grpc_server, incoming, peer, require, require_instance,
    require_manager, require_user,
};
pub use session::{Session, SessionCredentials, Sessions};
pub use signing::{ALGORITHM as SIGNING_ALGORITHM, Signer, json_web_key, key_id};
pub use subject::{principal_of, user_name_allowed};
pub use tls::SERVER_NAME;
pub use token::{JoinRole, JoinToken};
pub use vault::{Sealed, SecretText, Vault};
pub use web::Web;
