//! Why a signature does not count, in the names and, where AWS has them, the words of AWS.
//!
//! It knows both of AWS's vocabularies: the JSON services answer 400 to all of these, the Query
//! services (STS) have other names and 403. A secret never stands in a message.

/// Echoed text is cut: a refusal must not carry a whole hostile request back and into logs.
const ECHO_CHARS_MAX: usize = 120;

/// A request that is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No signature at all.
    #[error("Missing Authentication Token")]
    Missing,
    /// What was sent is not a whole signature of the kind we take.
    #[error("{0}")]
    Incomplete(String),
    /// A whole signature, but not by this key over this request at this time.
    #[error("{0}")]
    Invalid(String),
    /// No such key, or one that no longer counts. Holds what would help, or nothing.
    #[error("The security token included in the request is invalid.{}", aside(.0))]
    UnknownKey(String),
    /// Credentials that counted once. Holds why they do not any more, or nothing if it is time.
    #[error("The security token included in the request is expired{}", aside(.0))]
    Expired(String),
}

/// How a wire names a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub name: &'static str,
    pub http_status: u16,
}

impl Refusal {
    pub(super) fn incomplete(why: &str) -> Self {
        Self::Incomplete(why.into())
    }

    pub(super) fn invalid(why: &str) -> Self {
        Self::Invalid(why.into())
    }

    /// The one refusal for a wrong secret and for a request that was changed on its way.
    pub(super) fn mismatch() -> Self {
        Self::invalid(
            "The request signature we calculated does not match the signature you provided. Check \
             your AWS Secret Access Key and signing method. Consult the service documentation for \
             details.",
        )
    }

    /// Signed for another service than the one that is asked.
    pub fn service(asked: &str) -> Self {
        Self::Invalid(format!("Credential should be scoped to correct service: '{asked}'."))
    }

    /// Signed for a region that is not this cluster's.
    pub fn region(signed: &str, ours: &str) -> Self {
        Self::Invalid(format!(
            "Credential should be scoped to a valid region, not '{}'; this cluster is '{ours}': \
             set AWS_REGION and AWS_DEFAULT_REGION",
            echo(signed)
        ))
    }

    /// For the JSON services (ECS).
    pub fn json(&self) -> Fault {
        let name = match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::Invalid(_) => "InvalidSignatureException",
            Self::UnknownKey(_) => "UnrecognizedClientException",
            Self::Expired(_) => "ExpiredTokenException",
        };
        Fault { name, http_status: 400 }
    }

    /// For the Query services (STS).
    pub fn query(&self) -> Fault {
        let (name, http_status) = match self {
            Self::Missing => ("MissingAuthenticationToken", 403),
            Self::Incomplete(_) => ("IncompleteSignature", 400),
            Self::Invalid(_) => ("SignatureDoesNotMatch", 403),
            Self::UnknownKey(_) => ("InvalidClientTokenId", 403),
            Self::Expired(_) => ("ExpiredToken", 403),
        };
        Fault { name, http_status }
    }
}

fn aside(hint: &str) -> String {
    match hint {
        "" => String::new(),
        hint => format!(" ({hint})"),
    }
}

/// What may be told back of a request's own text.
pub fn echo(text: &str) -> String {
    let mut shown: String = text.chars().take(ECHO_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
