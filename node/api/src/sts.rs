//! STS GetCallerIdentity, the one call of another service that tools make before they use ECS.
//!
//! Pure: a form body and who sent it give XML (AWS's Query protocol). It does not know whether the
//! request was signed; refusals of signatures are put into the same form by `refused`.
//! Invariant: what a caller wrote stands in an answer escaped, and cut.

use crate::authz::Caller;
use crate::limits::STS_FORM_BYTES_MAX;
use crate::sigv4::{Refusal, echo, percent_decode};
use sha2::{Digest, Sha256};

/// The service's signing name.
pub const SERVICE: &str = "sts";
pub const CONTENT_TYPE: &str = "text/xml";

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
pub const ACTION: &str = "GetCallerIdentity";
const VERSION: &str = "2011-06-15";
/// Characters of an id behind `AIDA` or `AROA`.
const ID_DIGITS: usize = 17;

/// What goes back: the body is of `CONTENT_TYPE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub http_status: u16,
    pub body: String,
}

/// Whether a content type is the one of Query requests, whatever its parameters.
pub fn is_form(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Answers the form in `body`, sent by `caller` to the cluster with this account.
pub fn answer(body: &[u8], caller: &Caller, account: &str, request_id: &str) -> Answer {
    match action(body) {
        Ok(()) => identity(caller, account, request_id),
        Err((code, message)) => fault(400, code, &message, request_id),
    }
}

/// A request whose signature does not count, in the words of the Query services.
pub fn refused(refusal: &Refusal, request_id: &str) -> Answer {
    let face = refusal.query();
    fault(face.http_status, face.name, &refusal.to_string(), request_id)
}

/// Any other error: ours from 500 on, the caller's below.
pub fn fault(http_status: u16, code: &str, message: &str, request_id: &str) -> Answer {
    let whose = match http_status {
        500.. => "Receiver",
        _ => "Sender",
    };
    let body = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{whose}</Type>\n    \
         <Code>{}</Code>\n    <Message>{}</Message>\n  </Error>\n  \
         <RequestId>{}</RequestId>\n</ErrorResponse>\n",
        escaped(code),
        escaped(message),
        escaped(request_id)
    );
    Answer { http_status, body }
}

fn identity(caller: &Caller, account: &str, request_id: &str) -> Answer {
    let body = format!(
        "<{ACTION}Response xmlns=\"{NAMESPACE}\">\n  <{ACTION}Result>\n    \
         <Arn>{}</Arn>\n    <UserId>{}</UserId>\n    \
         <Account>{account}</Account>\n  </{ACTION}Result>\n  <ResponseMetadata>\n    \
         <RequestId>{}</RequestId>\n  </ResponseMetadata>\n</{ACTION}Response>\n",
        escaped(&caller.arn(account).unwrap_or_default()),
        escaped(&user_id(caller, account)),
        escaped(request_id),
        account = escaped(account)
    );
    Answer { http_status: 200, body }
}

/// IAM's ids are opaque; ours are the same for the same name. A user's begins with `AIDA`, a role's
/// with `AROA`, and the session's name, here the task's id, follows it.
fn user_id(caller: &Caller, account: &str) -> String {
    match caller {
        Caller::AssumedRole { role, task } => {
            format!("AROA{}:{task}", digits(&format!("muster role id\n{account}\n{role}")))
        }
        Caller::User { name, .. } => {
            format!("AIDA{}", digits(&format!("muster user id\n{account}\n{name}")))
        }
        Caller::Nobody | Caller::Instance(_) | Caller::Manager(_) => String::new(),
    }
}

fn digits(of: &str) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(of);
    let digits = digest.iter().take(ID_DIGITS).filter_map(|b| DIGITS.get(usize::from(b % 32)));
    digits.map(|digit| char::from(*digit)).collect()
}

/// Whether the form asks for the one thing that there is.
fn action(body: &[u8]) -> Result<(), (&'static str, String)> {
    if body.len() > STS_FORM_BYTES_MAX {
        let message = format!("the form is {} bytes; at most {STS_FORM_BYTES_MAX}", body.len());
        return Err(("ValidationError", message));
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(("MalformedQueryString", "the form is not UTF-8 text".into()));
    };
    let (mut action, mut version) = (None, None);
    for (name, value) in text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        let place = match decoded(name).as_str() {
            "Action" => &mut action,
            "Version" => &mut version,
            _ => continue,
        };
        if place.replace(decoded(value)).is_some() {
            let message = format!("parameter {} came more than once", echo(name));
            return Err(("MalformedQueryString", message));
        }
    }
    let Some(action) = action.filter(|action| !action.is_empty()) else {
        return Err(("MissingAction", "the form has no parameter Action".into()));
    };
    let version = version.unwrap_or_else(|| "NO_VERSION_SPECIFIED".into());
    if action == ACTION && version == VERSION {
        return Ok(());
    }
    let message = format!(
        "Could not find operation {} for version {}; this cluster answers {ACTION} of version \
         {VERSION} alone",
        echo(&action),
        echo(&version)
    );
    Err(("InvalidAction", message))
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&percent_decode(&text.replace('+', " "))).into_owned()
}

/// XML has no form at all for most control characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
