//! Pages of lists. A token says where the next page begins: the list's kind and its last item.
//!
//! Pages resume by key, never by position, so rows that come and go between pages neither repeat
//! nor hide others. Each page is one snapshot; the pages together need not be.
//! A token is no secret and grants nothing: what it names is looked up as the caller.

use crate::limits::TOKEN_BYTES_MAX;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_model::Error;
use muster_proto::convert::{PageSizes, page_size};

/// What a caller asked of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    kind: String,
    /// Key of the last item of the page before.
    after: Option<String>,
    size: usize,
}

impl Page {
    /// A page of a list that has ECS's usual sizes.
    ///
    /// # Errors
    /// As `sized`.
    pub fn new(kind: impl Into<String>, token: &str, max_results: i32) -> Result<Self, Error> {
        Self::sized(kind, token, max_results, PageSizes::MOST)
    }

    /// # Errors
    /// `Invalid` for a token of another list, one we did not make, and a size beyond the bounds.
    pub fn sized(
        kind: impl Into<String>,
        token: &str,
        max_results: i32,
        sizes: PageSizes,
    ) -> Result<Self, Error> {
        let kind = kind.into();
        let size = page_size(max_results, sizes)?;
        let after = match token {
            "" => None,
            token => Some(read(&kind, token).ok_or_else(|| {
                let allowed = "the nextToken of the page before, of the same list";
                Error::invalid("nextToken", token, allowed)
            })?),
        };
        Ok(Self { kind, after, size })
    }

    /// Key of the last item of the page before, to seek to.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Takes one page of `items`, which come after `self.after()` in the order of their keys, and
    /// the token of the next page; empty at the end.
    pub fn take<T>(&self, items: impl Iterator<Item = (String, T)>) -> (Vec<T>, String) {
        let mut items = items.peekable();
        let mut page = Vec::new();
        let mut last = None;
        while page.len() < self.size {
            let Some((key, item)) = items.next() else { return (page, String::new()) };
            page.push(item);
            last = Some(key);
        }
        match (last, items.peek()) {
            (Some(last), Some(_)) => (page, self.token(&last)),
            _ => (page, String::new()),
        }
    }

    fn token(&self, last: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}\n{last}", self.kind))
    }
}

fn read(kind: &str, token: &str) -> Option<String> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (found, last) = text.split_once('\n')?;
    (found == kind).then(|| last.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn numbers(after: Option<&str>) -> impl Iterator<Item = (String, u32)> {
        let from = after.map_or(0, |last| last.parse::<u32>().unwrap() + 1);
        (from..250).map(|n| (n.to_string(), n))
    }

    #[test]
    fn pages_together_are_the_list_without_gap_or_repeat() {
        for size in [1, 7, 100] {
            let (mut all, mut token) = (Vec::new(), String::new());
            loop {
                let page = Page::new("numbers", &token, size).unwrap();
                let (mut items, next) = page.take(numbers(page.after()));
                assert!(items.len() <= size as usize);
                all.append(&mut items);
                token = next;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(all, (0..250).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_full_last_page_has_no_next() {
        let page = Page::new("numbers", "", 50).unwrap();
        let (items, next) = page.take(numbers(Some("199")));
        assert_eq!((items.len(), next.as_str()), (50, ""));
    }

    #[test]
    fn tokens_of_other_lists_and_garbage_are_refused() {
        let token = Page::new("numbers", "", 1).unwrap().token("7");
        assert!(Page::new("letters", &token, 1).is_err());
        let long = "A".repeat(TOKEN_BYTES_MAX + 1);
        for bad in ["x", "!!!", "AAAA", long.as_str(), &token[1..]] {
            let told = Page::new("numbers", bad, 1).unwrap_err().to_string();
            assert!(told.starts_with("nextToken"), "{told}");
        }
    }

    #[test]
    fn the_size_has_bounds() {
        assert!(Page::new("numbers", "", 100).is_ok());
        for bad in [-1, 101, i32::MAX, i32::MIN] {
            assert!(Page::new("numbers", "", bad).is_err(), "{bad}");
        }
        let size = |asked, sizes| Page::sized("numbers", "", asked, sizes).map(|page| page.size);
        assert_eq!(size(0, PageSizes::SERVICES), Ok(10));
        assert_eq!(size(100, PageSizes::SERVICES), Ok(100));
        assert_eq!(size(0, PageSizes::DEPLOYMENTS), Ok(20));
        assert_eq!(size(0, PageSizes::SHORT), Ok(10));
        assert!(size(11, PageSizes::SHORT).is_err());
    }
}
