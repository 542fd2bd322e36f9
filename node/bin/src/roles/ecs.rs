//! The ECS wire protocol's listener: on which address, with which certificate, for how long one.
//!
//! It does not know what is asked there (`muster_api::ecs`) nor who may.

use super::RoleError;
use crate::config::EcsConfig;
use muster_api::ecs::Door;
use muster_api::ecs::listener::{Transport, serve};
use muster_identity::{Authority, IssuedWeb, Web};
use muster_process::clock::Clock;
use muster_replica::Replica;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a certificate of the cluster's authority lasts here, and how often it is renewed or its
/// file read again.
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);
const REFRESH: Duration = Duration::from_secs(3600);

/// Where the listener's certificate comes from.
#[derive(Clone)]
struct Source {
    config: EcsConfig,
    /// Under which its clients know it.
    names: Vec<String>,
    replica: Replica,
    clock: Clock,
}

/// A listener that is bound and not yet served.
pub struct Bound {
    listener: TcpListener,
    source: Source,
}

/// # Errors
/// The configuration is wrong, the address is taken, or a certificate's file cannot be used.
pub async fn bind(
    config: &EcsConfig,
    address: &str,
    replica: &Replica,
    clock: &Clock,
) -> Result<Bound, RoleError> {
    config.check()?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| RoleError::Listen { address: config.listen, source })?;
    let source = Source {
        config: config.clone(),
        names: names(address, config),
        replica: replica.clone(),
        clock: clock.clone(),
    };
    // A file that cannot be used is said at once, not to the first client.
    source.files()?;
    Ok(Bound { listener, source })
}

impl Bound {
    /// Serves until `stop`; first waits until the cluster has an authority, if it needs one.
    pub async fn serve(self, door: Arc<Door>, stop: CancellationToken) {
        let Self { listener, source } = self;
        let transport = match source.config.plain {
            true => Transport::Plain,
            false => match stop.run_until_cancelled(source.first()).await {
                Some(web) => Transport::Tls(web),
                None => return,
            },
        };
        let address = source.config.listen;
        tracing::info!(%address, "the ECS wire protocol is served");
        if let Transport::Tls(web) = &transport {
            tokio::spawn(stop.clone().run_until_cancelled_owned(refresh(source, web.clone())));
        }
        serve(listener, transport, door, stop).await;
    }
}

async fn refresh(source: Source, web: Web) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let renewed = source.material();
        let replaced = renewed.and_then(|new| Ok(web.replace(&new.cert_pem, &new.key_pem)?));
        if let Err(error) = replaced {
            tracing::error!(%error, "renewing the ECS listener's certificate; the old one stays");
        }
    }
}

impl Source {
    /// Waits for the authority: a manager that has just joined has no state yet.
    async fn first(&self) -> Web {
        let mut states = self.replica.watch();
        states.mark_changed();
        loop {
            let made = self.material().and_then(|new| Ok(Web::new(&new.cert_pem, &new.key_pem)?));
            match made {
                Ok(web) => return web,
                Err(error) => tracing::debug!(%error, "no certificate for the ECS listener yet"),
            }
            if states.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn material(&self) -> Result<IssuedWeb, RoleError> {
        if let Some(files) = self.files()? {
            return Ok(files);
        }
        let state = self.replica.state();
        let authority = &state.meta().authority;
        let authority = Authority::from_pem(&authority.certificate_pem, &authority.key_pem)?;
        let now = UNIX_EPOCH + Duration::from_millis((self.clock)().0);
        Ok(authority.issue_web(&self.names, VALIDITY, now)?)
    }

    fn files(&self) -> Result<Option<IssuedWeb>, RoleError> {
        let (Some(certificate), Some(key)) = (&self.config.certificate, &self.config.key) else {
            return Ok(None);
        };
        let read =
            |path: &Path| std::fs::read_to_string(path).map_err(RoleError::file("reading", path));
        let pem = IssuedWeb { cert_pem: read(certificate)?, key_pem: read(key)? };
        Web::new(&pem.cert_pem, &pem.key_pem)?;
        Ok(Some(pem))
    }
}

/// What a client may call this machine: its address, what it listens at, and loopback.
fn names(address: &str, config: &EcsConfig) -> Vec<String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let listen = config.listen.ip();
    let mut names = vec![host, "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.is_unspecified() && !names.contains(&listen.to_string()) {
        names.push(listen.to_string());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_known_by_its_address_and_on_its_own_machine() {
        let config = EcsConfig::beside("0.0.0.0:7400".parse().unwrap()).unwrap();
        let known = names("10.0.1.10:7400", &config);
        assert_eq!(known, ["10.0.1.10", "localhost", "127.0.0.1", "::1"]);
        let config = EcsConfig::beside("10.0.0.9:7400".parse().unwrap()).unwrap();
        assert_eq!(names("[fd00::1]:7400", &config)[0], "fd00::1");
        assert!(names("m1.example:7400", &config).contains(&"10.0.0.9".to_owned()));
    }
}
