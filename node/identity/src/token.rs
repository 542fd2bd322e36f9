//! Join tokens: what a new machine needs to find out that it talks to the right cluster, and the
//! cluster to let it in.
//!
//! `MUSTER-1-<mgr|wkr>-<authority digest>-<secret>`. The digest lets the machine check the
//! manager before it says anything; the secret lets the manager check the machine. The state
//! keeps only the secret's hash: whoever reads the state cannot join.

use crate::digest::{CaDigest, hex, is_hex};
use crate::error::Error;
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_SECRET_BYTES};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "MUSTER";
const VERSION: &str = "1";

/// What the bearer of a token may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinRole {
    Manager,
    Worker,
}

impl JoinRole {
    const fn short(self) -> &'static str {
        match self {
            Self::Manager => "mgr",
            Self::Worker => "wkr",
        }
    }
}

impl fmt::Display for JoinRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
        })
    }
}

/// A join token. It has no `Display`, so that no log line can print it by accident: `reveal` does.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub role: JoinRole,
    pub ca: CaDigest,
    secret: String,
}

impl JoinToken {
    /// A new token with a secret from the machine's entropy.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate(role: JoinRole, ca: CaDigest) -> Result<Self, Error> {
        let mut secret = [0; TOKEN_SECRET_BYTES];
        OsRng
            .try_fill_bytes(&mut secret)
            .map_err(|error| Error::crypto("make a join token", error))?;
        Ok(Self::with_secret(role, ca, secret))
    }

    /// A token with a secret that the caller took from something secret itself, so that a repeat
    /// of a request makes the same token.
    pub fn with_secret(role: JoinRole, ca: CaDigest, secret: [u8; TOKEN_SECRET_BYTES]) -> Self {
        Self { role, ca, secret: hex(&secret) }
    }

    /// The token as the user passes it on. Treat it as a password.
    pub fn reveal(&self) -> String {
        let Self { role, ca, secret } = self;
        format!("{PREFIX}-{VERSION}-{}-{ca}-{secret}", role.short())
    }

    /// The secret alone, for the `Join` rpc over a pinned connection.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// SHA-256 of the secret in hex: the only thing the state stores.
    pub fn secret_hash(&self) -> String {
        hash_secret(&self.secret)
    }
}

/// The hash a manager compares with the stored one, of a secret somebody sent.
pub fn hash_secret(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Whether two hashes are equal, in a time that does not depend on where they differ.
pub fn same_hash(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut difference = u8::from(left.len() != right.len());
    for (a, b) in left.iter().zip(right) {
        // Opaque to the optimiser, which could otherwise leave the loop early.
        difference = std::hint::black_box(difference | (a ^ b));
    }
    difference == 0
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("role", &self.role)
            .field("ca", &self.ca.short())
            .finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    /// Space around the token is dropped: it is copied by hand. Errors never quote the token.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |problem: String| Err(Error::Token { problem });
        let text = text.trim();
        if text.len() > TOKEN_BYTES_MAX {
            return bad(format!("{} bytes are too long for one", text.len()));
        }
        let parts: Vec<&str> = text.split('-').collect();
        if parts.first() != Some(&PREFIX) {
            return bad(format!("it must begin with `{PREFIX}-{VERSION}-`"));
        }
        if parts.get(1).is_some_and(|version| *version != VERSION) {
            return bad(format!(
                "it is not of format {VERSION}, the only one this version of muster reads"
            ));
        }
        let [_, _, role, digest, secret] = parts[..] else {
            return bad(format!("it must have 5 parts between `-`, not {}", parts.len()));
        };
        let role = match role {
            "mgr" => JoinRole::Manager,
            "wkr" => JoinRole::Worker,
            _ => return bad("its role must be `mgr` or `wkr`".to_owned()),
        };
        let Ok(ca) = digest.parse() else {
            return bad(format!(
                "its authority digest must be 64 lower-case hex digits, it has {} characters",
                digest.chars().count()
            ));
        };
        let digits = TOKEN_SECRET_BYTES * 2;
        if secret.len() != digits || !is_hex(secret) {
            return bad(format!(
                "its secret must be {digits} lower-case hex digits, it has {} characters",
                secret.chars().count()
            ));
        }
        let secret = secret.to_owned();
        Ok(Self { role, ca, secret })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken::generate(JoinRole::Worker, CaDigest::of_der(b"a cluster")).unwrap()
    }

    fn problem(text: &str) -> String {
        text.parse::<JoinToken>().unwrap_err().to_string()
    }

    #[test]
    fn a_token_survives_being_written_and_copied_with_spaces() {
        for role in [JoinRole::Manager, JoinRole::Worker] {
            let token = JoinToken::generate(role, CaDigest::of_der(b"a cluster")).unwrap();
            let copied = format!("  {}\n", token.reveal());
            assert_eq!(copied.parse::<JoinToken>().unwrap(), token);
        }
        assert_ne!(token().reveal(), token().reveal());
    }

    #[test]
    fn a_bad_token_is_told_what_is_wrong_with_it_and_not_quoted() {
        let good = token().reveal();
        let secret = token().secret().to_owned();
        let digest = "ab".repeat(32);
        for (text, says) in [
            (String::new(), "must begin with `MUSTER-1-`"),
            ("hunter2".to_owned(), "must begin with"),
            (good.replace("MUSTER-1", "MUSTER-2"), "not of format 1"),
            ("MUSTER-1-wkr".to_owned(), "5 parts between `-`, not 3"),
            (format!("{good}-x"), "5 parts between `-`, not 6"),
            (good.replace("wkr", "root"), "`mgr` or `wkr`"),
            (format!("MUSTER-1-wkr-{}-{secret}", &digest[1..]), "it has 63 characters"),
            (format!("MUSTER-1-wkr-{}-{secret}", digest.to_uppercase()), "lower-case hex"),
            (good[..good.len() - 1].to_owned(), "it has 31 characters"),
            (format!("MUSTER-1-wkr-{digest}-{}", "é".repeat(16)), "32 lower-case hex"),
            ("MUSTER-".repeat(100), "too long"),
        ] {
            let told = problem(&text);
            assert!(told.contains(says), "{text}: {told}");
            assert!(told.contains("muster init"), "{told}");
            assert!(!told.contains(&secret) && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = token();
        let shown = format!("{token:?}");
        assert!(!shown.contains(token.secret()), "{shown}");
        assert!(shown.contains("Worker"), "{shown}");
    }

    #[test]
    fn hashes_are_compared_whole() {
        let hash = token().secret_hash();
        assert_eq!(hash.len(), 64);
        assert!(same_hash(&hash, &hash.clone()));
        assert!(!same_hash(&hash, &hash[1..]));
        assert!(!same_hash(&hash, ""));
        let mut last = hash.clone();
        last.replace_range(63.., if hash.ends_with('0') { "1" } else { "0" });
        assert!(!same_hash(&hash, &last));
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC*") {
            let _ = text.parse::<JoinToken>();
        }

        #[test]
        fn no_near_miss_makes_parsing_panic_and_what_parses_is_what_is_written(
            text in "MUSTER-1-(mgr|wkr)-[0-9a-f]{63,65}-([0-9a-f]{31,33}|[0-9a-fé]{31,33})"
        ) {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.reveal(), text);
            }
        }
    }
}
