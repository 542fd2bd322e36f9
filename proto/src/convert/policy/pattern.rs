//! Wildcards: `*` is any run of characters, `?` any one.
//!
//! Matching remembers only the last `*`, so it takes at most pattern times text steps and never
//! more memory, whatever the pattern.

/// A text with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn matches(&self, text: &str) -> bool {
        matches(&self.0, text, |a, b| a == b)
    }

    /// Letters of ASCII in either case are the same.
    pub fn matches_in_any_case(&self, text: &str) -> bool {
        matches(&self.0, text, |a, b| a.eq_ignore_ascii_case(&b))
    }
}

fn matches(pattern: &str, text: &str, same: impl Fn(char, char) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // What follows the last star, and the text that the star has not taken yet.
    let mut retry = None;
    loop {
        match pattern.next() {
            Some('*') => {
                retry = Some((pattern.clone(), text.clone()));
                continue;
            }
            Some(wanted) => match text.next() {
                Some(found) if wanted == '?' || same(wanted, found) => continue,
                Some(_) => {}
                // A star that takes more leaves even less.
                None => return false,
            },
            None if text.as_str().is_empty() => return true,
            None => {}
        }
        // The last star takes one character more.
        let Some((after, left)) = &mut retry else { return false };
        if left.next().is_none() {
            return false;
        }
        (pattern, text) = (after.clone(), left.clone());
    }
}

/// A pattern of an ARN: its six parts are matched one by one, so that a wildcard in one of them
/// never reaches into the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArnPattern([Pattern; 6]);

impl ArnPattern {
    /// Only ARNs that this service can have: `None` for anything else.
    pub fn new(text: &str) -> Option<Self> {
        let parts = parts(text)?;
        let [arn, partition, service, ..] = parts;
        let ours = arn == "arn" && Pattern::new(partition).matches("aws") && service == "ecs";
        let named = parts.iter().all(|part| !part.is_empty());
        (ours && named).then(|| Self(parts.map(Pattern::new)))
    }

    pub fn matches(&self, arn: &str) -> bool {
        let Some(parts) = parts(arn) else { return false };
        self.0.iter().zip(parts).all(|(pattern, part)| pattern.matches(part))
    }
}

fn parts(text: &str) -> Option<[&str; 6]> {
    let mut parts = text.splitn(6, ':');
    let six = [(); 6].map(|()| parts.next());
    let [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f)] = six else { return None };
    Some([a, b, c, d, e, f])
}
