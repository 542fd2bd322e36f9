//! Certificates that expire under load.
//!
//! A user's can be issued for seconds, a manager's and an agent's not: it is the user's session
//! that is seen to end on time, while that of the next certificate goes on.

use super::{Span, Struck};
use crate::campaign::field::Field;
use crate::campaign::record::Record;
use muster_identity::{ConnectOptions, Connector, Identity, IdentityPem, new_key_and_csr};
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use pb::operator_client::OperatorClient;
use std::time::{Duration, Instant};
use tonic::Code;

/// How long the certificate is good: the least that Muster issues.
const VALID: Duration = Duration::from_secs(60);
/// Certificates count whole seconds.
const ROUNDING: Duration = Duration::from_secs(2);
/// How long its bearer goes on afterwards.
const AFTER: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// A session outlives its certificate: it must be cut, and a new one with it refused.
///
/// # Errors
/// No certificate is issued.
pub fn expiry(field: &mut Field, _: Span) -> Result<Struck, String> {
    let struck = field.record.now();
    let one = field.below(field.managers.len() as u64) as usize;
    let (door, address) = (field.door(0)?, field.managers[one].clone());
    let record = field.record.clone();
    let (answered, refused) = field.ask(async move {
        let (key, certificate_request_pem) = new_key_and_csr().map_err(|e| e.to_string())?;
        let request = pb::CreateUserRequest {
            name: format!("brief-{struck}"),
            role: "read-only".into(),
            certificate_request_pem,
            validity_seconds: i64::try_from(VALID.as_secs()).unwrap_or(1),
            ..Default::default()
        };
        let begun = Instant::now();
        let call = async |channel, request| OperatorClient::new(channel).create_user(request).await;
        let issued = door.write(request, call).await.map_err(|error| error.to_string())?;
        let pem = IdentityPem { ca: issued.ca_pem, cert: issued.certificate_pem, key };
        let identity = Identity::from_pem(pem).map_err(|error| error.to_string())?;
        bear(&record, identity, &address, begun).await
    })?;
    let what = format!(
        "a user's certificate of {VALID:?} under load: {answered} calls answered before its end, \
         {refused} refused after"
    );
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// Calls with a certificate until well after its end: how many were answered, and how many not.
async fn bear(
    record: &Record,
    identity: Identity,
    address: &str,
    begun: Instant,
) -> Result<(u64, u64), String> {
    let options = ConnectOptions { connect_timeout: ANSWER_WAIT, ..Default::default() };
    let channel = Connector::new(identity).connect_lazy(address, options);
    let channel = channel.map_err(|error| error.to_string())?;
    let (mut answered, mut refused) = (0, 0);
    while begun.elapsed() < VALID + AFTER {
        let asked = begun.elapsed();
        let request = pb::ListClustersRequest { stale: true, ..Default::default() };
        let mut client = EcsClient::new(channel.clone());
        let call = tokio::time::timeout(ANSWER_WAIT, client.list_clusters(request)).await;
        match call {
            Ok(Ok(_)) if asked > VALID + ROUNDING => {
                let what =
                    format!("a call was answered {asked:.1?} after its certificate of {VALID:?}");
                record.breach("I12", what);
                return Ok((answered, refused));
            }
            Ok(Ok(_)) => answered += 1,
            Ok(Err(status)) if asked < VALID - ROUNDING && status.code() != Code::Unavailable => {
                record.breach("I9", format!("a good certificate was refused: {status}"));
            }
            _ => refused += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
    if answered == 0 {
        record.breach("I9", "a user with a good certificate was never answered".into());
    }
    Ok((answered, refused))
}
