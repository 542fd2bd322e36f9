//! What a task signs requests with as its task role: made from a key of the cluster, kept nowhere.
//!
//! A session token says which task, which role and until when, under a MAC; the access key's id and
//! secret follow from what it says (docs/decisions/0019). It does not know whether the task still
//! runs, nor what the role may do. Invariants: only who has the authority's key can make a token
//! that reads, or learn the secret that belongs to one; the same session has the same credentials,
//! whichever manager makes them.

use crate::error::Error;
use crate::pem;
use crate::vault::SecretText;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use muster_model::{AccessKeyId, TaskId, Time};
use ring::{hkdf, hmac};
use std::fmt;
use zeroize::Zeroizing;

use crate::limits::{
    ACCESS_KEY_ID_BYTES, ACCESS_KEY_SECRET_BYTES, SESSION_ROLE_BYTES_MAX, SESSION_TOKEN_BYTES_MAX,
};

/// First byte of a token: another way to make them will have another.
const FORM: u8 = 1;
/// Says what the derived key is for, so that another use of the authority's key derives another.
const TASK_SESSIONS: &[u8] = b"muster task sessions 1";
/// What is made of a session under that key: none of them is another.
const TAG: &[u8] = b"tag";
const KEY_ID: &[u8] = b"access key id";
const SECRET: &[u8] = b"secret access key";

const FORM_BYTES: usize = 1;
const TIME_BYTES: usize = 8;
const TASK_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// A task that acts as its task role, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The role's name.
    pub role: String,
    pub task: TaskId,
    pub expires_at: Time,
}

/// What a request of a session is signed with. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct SessionCredentials {
    pub access_key_id: String,
    pub secret_access_key: SecretText,
    pub token: String,
}

/// Makes and reads the sessions of one cluster.
pub struct Sessions {
    key: hmac::Key,
}

impl Sessions {
    /// Those of the cluster whose authority has this private key (PKCS #8, PEM).
    ///
    /// # Errors
    /// When it is no private key.
    pub fn of(authority_key_pem: &str) -> Result<Self, Error> {
        let authority = pem::private_key("authority key", authority_key_pem)?;
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, TASK_SESSIONS);
        let derived = derived.extract(authority.secret_der());
        let derived = derived
            .expand(&[b"HMAC-SHA-256"], hmac::HMAC_SHA256)
            .map_err(|_| Error::crypto("derive the key for task sessions", "unknown error"))?;
        Ok(Self { key: hmac::Key::from(derived) })
    }

    pub fn credentials(&self, session: &Session) -> SessionCredentials {
        let body = written(session);
        let id = self.made(KEY_ID, &body);
        let id = id.as_ref().iter().take(ACCESS_KEY_ID_BYTES);
        let id = id.fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        let secret = self.made(SECRET, &body);
        let secret = secret.as_ref().get(..ACCESS_KEY_SECRET_BYTES).unwrap_or_default();
        let secret = Zeroizing::new(STANDARD.encode(secret));
        let tag = self.made(TAG, &body);
        SessionCredentials {
            access_key_id: AccessKeyId::from_bits(id).temporary(),
            secret_access_key: SecretText::new(secret),
            token: URL_SAFE_NO_PAD.encode([&body, tag.as_ref()].concat()),
        }
    }

    /// What a token of this cluster says, also if it has expired; `None` for any other text.
    pub fn read(&self, token: &str) -> Option<Session> {
        if token.len() > SESSION_TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        hmac::verify(&self.key, &[TAG, &[0], body].concat(), tag).ok()?;
        read(body)
    }

    fn made(&self, what: &[u8], body: &[u8]) -> hmac::Tag {
        hmac::sign(&self.key, &[what, &[0], body].concat())
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(..)")
    }
}

/// Form, expiry in milliseconds since 1970, task, role: the role alone has a length of its own.
fn written(session: &Session) -> Vec<u8> {
    let Session { role, task, expires_at } = session;
    let (expires_at, task) = (expires_at.0.to_be_bytes(), task.bits().to_be_bytes());
    [&[FORM], &expires_at[..], &task[..], role.as_bytes()].concat()
}

fn read(body: &[u8]) -> Option<Session> {
    let (form, rest) = body.split_first_chunk::<FORM_BYTES>()?;
    let (expires_at, rest) = rest.split_first_chunk::<TIME_BYTES>()?;
    let (task, role) = rest.split_first_chunk::<TASK_BYTES>()?;
    let role = std::str::from_utf8(role).ok().filter(|it| it.len() <= SESSION_ROLE_BYTES_MAX)?;
    (*form == [FORM]).then(|| Session {
        role: role.to_owned(),
        task: TaskId::from_bits(u128::from_be_bytes(*task)),
        expires_at: Time(u64::from_be_bytes(*expires_at)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;
    use std::time::SystemTime;

    fn session(role: &str, task: u128, expires_at: u64) -> Session {
        let (role, task) = (role.to_owned(), TaskId::from_bits(task));
        Session { role, task, expires_at: Time(expires_at) }
    }

    fn authority() -> Authority {
        Authority::create("test", SystemTime::now()).unwrap()
    }

    #[test]
    fn every_manager_makes_the_same_credentials_and_reads_them() {
        let authority = authority();
        let sessions = || Sessions::of(&authority.key_pem()).unwrap();
        let web = session(&"r".repeat(SESSION_ROLE_BYTES_MAX), u128::MAX, u64::MAX);
        let (one, other) = (sessions().credentials(&web), sessions().credentials(&web));
        assert_eq!(one.token, other.token);
        assert_eq!(one.secret_access_key.reveal(), other.secret_access_key.reveal());
        assert!(one.access_key_id.starts_with("ASIA"), "{one:?}");
        assert_eq!((one.access_key_id.len(), one.secret_access_key.reveal().len()), (20, 40));
        assert!(one.token.len() <= SESSION_TOKEN_BYTES_MAX, "{}", one.token.len());
        assert_eq!(sessions().read(&one.token), Some(web));
        assert!(!format!("{one:?}").contains(one.secret_access_key.reveal()));
    }

    #[test]
    fn another_role_task_time_or_cluster_has_other_credentials() {
        let sessions = Sessions::of(&authority().key_pem()).unwrap();
        let others = [
            sessions.credentials(&session("web", 1, 1)),
            sessions.credentials(&session("web", 1, 2)),
            sessions.credentials(&session("web", 2, 1)),
            sessions.credentials(&session("we", 1, 1)),
            Sessions::of(&authority().key_pem()).unwrap().credentials(&session("web", 1, 1)),
        ];
        for (at, one) in others.iter().enumerate() {
            for other in &others[at + 1..] {
                assert_ne!(one.access_key_id, other.access_key_id);
                assert_ne!(one.secret_access_key.reveal(), other.secret_access_key.reveal());
                assert_ne!(one.token, other.token);
            }
        }
        assert_eq!(sessions.read(&others[4].token), None, "another cluster's");
    }

    #[test]
    fn what_was_changed_anywhere_is_no_token() {
        let sessions = Sessions::of(&authority().key_pem()).unwrap();
        let token = sessions.credentials(&session("web", 7, 9)).token;
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(sessions.read(&URL_SAFE_NO_PAD.encode(&bytes)), None, "byte {at}");
            assert_eq!(sessions.read(&URL_SAFE_NO_PAD.encode(&bytes[..at])), None, "cut at {at}");
        }
        for text in ["", "a", "=", "\u{e9}", &token.repeat(20)] {
            assert_eq!(sessions.read(text), None, "{text:?}");
        }
    }
}
