//! Runs every script in `tests/data`; `UPDATE=1 cargo test -p muster-model` records the answers
//! anew. Commit only a difference that you can explain.

use muster_model::fixture::script;
use std::path::Path;

#[test]
// A test may read its own switch and files; the crate may not.
#[allow(clippy::disallowed_methods)]
fn every_script_comes_to_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    let update = std::env::var_os("UPDATE").is_some();
    let mut different = Vec::new();
    for path in scripts {
        let recorded = std::fs::read_to_string(&path).unwrap();
        let now = script::run(&recorded);
        if now != recorded && update {
            std::fs::write(&path, &now).unwrap();
        } else if now != recorded {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            different.push(format!("==== {name}\n{}", first_difference(&recorded, &now)));
        }
    }
    assert!(different.is_empty(), "{}\nUPDATE=1 records them anew", different.join("\n"));
}

fn first_difference(recorded: &str, now: &str) -> String {
    let mut lines = recorded.lines().zip(now.lines()).enumerate();
    match lines.find(|(_, (old, new))| old != new) {
        Some((at, (old, new))) => format!("line {}:\n  recorded {old}\n  now      {new}", at + 1),
        None => "one is longer than the other".into(),
    }
}
