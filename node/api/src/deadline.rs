//! What headers say about a call: until when it matters, and which journey it belongs to.
//!
//! Pure. A malformed `grpc-timeout` is refused: ignoring it would hold a caller longer than it
//! asked. A malformed `traceparent` is ignored, as W3C Trace Context says.

use crate::limits::{DEADLINE_DEFAULT, DEADLINE_MARGIN, DEADLINE_MAX};
use http::HeaderValue;
use muster_model::TraceId;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// The instant by which a call is answered, whatever the answer.
///
/// # Errors
/// `InvalidArgument` when the header is not up to eight digits and a unit.
pub fn of(header: Option<&HeaderValue>, now: Instant) -> Result<Instant, Status> {
    let Some(header) = header else { return Ok(now + DEADLINE_DEFAULT) };
    let text = header.to_str().unwrap_or("?");
    let asked = parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(20).collect();
        Status::invalid_argument(format!(
            "grpc-timeout: {shown:?} is not allowed; allowed: 1 to 8 digits and one of H, M, S, \
             m, u, n"
        ))
    })?;
    let margin = DEADLINE_MARGIN.min(asked / 10);
    Ok(now + (asked - margin).min(DEADLINE_MAX))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The trace id of a W3C `traceparent`: version, trace id, span id and flags between dashes.
pub fn trace_parent(header: &HeaderValue) -> Option<TraceId> {
    let mut parts = header.to_str().ok()?.split('-');
    let (_version, trace) = (parts.next()?, parts.next()?);
    let trace: TraceId = trace.parse().ok()?;
    (trace.bits() != 0).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(header: &'static str) -> Result<u128, String> {
        let now = Instant::now();
        let at = of(Some(&HeaderValue::from_static(header)), now);
        at.map(|at| (at - now).as_millis()).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn a_timeout_is_kept_with_a_margin_and_cut_to_the_maximum() {
        assert_eq!(after("1S"), Ok(900));
        assert_eq!(after("10S"), Ok(9_750));
        assert_eq!(after("100m"), Ok(90));
        assert_eq!(after("2M"), Ok(119_750));
        assert_eq!(after("99999999H"), Ok(120_000));
        assert_eq!(after("0S"), Ok(0));
        let now = Instant::now();
        assert_eq!(of(None, now).ok(), Some(now + DEADLINE_DEFAULT));
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        for bad in ["", "S", "1", "123456789S", "-1S", "1.5S", "1s", "1é", "é"] {
            let now = Instant::now();
            let header = HeaderValue::from_bytes(bad.as_bytes());
            assert!(of(header.ok().as_ref(), now).is_err(), "{bad}");
        }
        assert!(after("5 S").is_err_and(|told| told.contains("grpc-timeout")));
    }

    #[test]
    fn the_trace_id_of_a_traceparent_is_its_second_part() {
        let read = |text| trace_parent(&HeaderValue::from_static(text)).map(|id| id.to_string());
        let id = "0af7651916cd43dd8448eb211c80319c";
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(read(header).as_deref(), Some(id));
        for bad in ["", "00", "00-xyz-1-01", "00-00000000000000000000000000000000-1-01"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
