//! Scripts on disk: which there are, and whether what they recorded still holds.

/// Compares a script's recorded answers with those of now; `UPDATE=1` records them instead.
pub fn check(path: &std::path::Path, text: &str, now: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, now).expect("a script is not writable");
        return;
    }
    if text != now {
        let first = text.lines().zip(now.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let from = first.saturating_sub(12);
        let part = |text: &str| text.lines().skip(from).take(40).collect::<Vec<_>>().join("\n");
        panic!(
            "{} differs from line {} on (UPDATE=1 records)\n---- recorded\n{}\n---- now\n{}",
            path.display(),
            first + 1,
            part(text),
            part(now)
        );
    }
}

/// Every script of a folder, in order of name.
pub fn scripts(folder: &str) -> Vec<std::path::PathBuf> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("no scripts")
        .map(|entry| entry.expect("unreadable").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {}", folder.display());
    paths
}
