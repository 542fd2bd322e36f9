//! The command line of the shim: what one container needs to be made and watched.
//!
//! Every option takes a value and has no default, so that a caller cannot forget one; only
//! `--stdin`, `--terminal` and the two of a leash may be left out. The caller is our own agent,
//! never a person.

use std::path::PathBuf;
use std::time::Duration;

/// The only argument of a shim that watches no container.
pub const PAUSE: &str = "--pause";

/// How to call the shim, printed when it is called otherwise.
const USAGE: &str = "usage: muster-shim --runc PATH --root DIR --id ID --bundle DIR --dir DIR \
    --oom-file PATH --log-bytes N --log-files N --create-timeout-ms N [--stdin yes] \
    [--terminal yes] [--contact-file PATH --contact-ms N], or \
    muster-shim --pause";

/// Smallest log file allowed: one line of the longest kind must fit.
const LOG_BYTES_MIN: u64 = 128 * 1024;
/// More rotated files than this only cost directory look-ups.
const LOG_FILES_MAX: u32 = 100;
/// A day: longer than any stop timeout.
const CONTACT_MS_MAX: u64 = 86_400_000;

#[derive(Debug)]
pub struct Plan {
    /// The OCI runtime's program.
    pub runc: PathBuf,
    /// The runtime's `--root`.
    pub root: PathBuf,
    /// The container's name for the runtime.
    pub id: String,
    /// The OCI bundle (config.json and rootfs).
    pub bundle: PathBuf,
    /// Where log, shim.json and exit.json go.
    pub dir: PathBuf,
    /// The cgroup file with an `oom_kill N` line (memory.oom_control or memory.events).
    pub oom_file: PathBuf,
    /// Size at which the log is rotated.
    pub log_bytes: u64,
    /// How many log files are kept, the current one included.
    pub log_files: u32,
    /// When `runc create` is given up.
    pub create_timeout: Duration,
    /// Whether the container's standard input is a pipe (`DIR/stdin`) that stays open.
    pub stdin: bool,
    /// Whether it has a terminal, which is its input and its output.
    pub terminal: bool,
    /// Of a strict task.
    pub leash: Option<Leash>,
}

/// Until when the container may run: so long after the moment that the file tells.
#[derive(Debug)]
pub struct Leash {
    pub contact_file: PathBuf,
    pub over_after: Duration,
}

impl Plan {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut given: Vec<(String, String)> = Vec::new();
        while let Some(name) = args.next() {
            let Some(value) = args.next() else {
                return Err(format!("option {name} has no value; {USAGE}"));
            };
            given.push((name, value));
        }
        let mut take = |name: &str| {
            let at = given.iter().position(|(n, _)| n == name);
            at.map(|at| given.swap_remove(at).1)
        };
        let mut need = |name: &str| take(name).ok_or(format!("option {name} is missing; {USAGE}"));
        let mut plan = Self {
            runc: need("--runc")?.into(),
            root: need("--root")?.into(),
            id: need("--id")?,
            bundle: need("--bundle")?.into(),
            dir: need("--dir")?.into(),
            oom_file: need("--oom-file")?.into(),
            log_bytes: number("--log-bytes", &need("--log-bytes")?, LOG_BYTES_MIN, u64::MAX)?,
            log_files: number("--log-files", &need("--log-files")?, 1, LOG_FILES_MAX.into())?
                as u32,
            create_timeout: Duration::from_millis(number(
                "--create-timeout-ms",
                &need("--create-timeout-ms")?,
                1,
                3_600_000,
            )?),
            stdin: take("--stdin").is_some_and(|v| v == "yes"),
            terminal: take("--terminal").is_some_and(|v| v == "yes"),
            leash: None,
        };
        let leash = (take("--contact-file"), take("--contact-ms"));
        plan.leash = match leash {
            (None, None) => None,
            (Some(file), Some(ms)) => {
                let ms = number("--contact-ms", &ms, 1, CONTACT_MS_MAX)?;
                let over_after = Duration::from_millis(ms);
                Some(Leash { contact_file: file.into(), over_after })
            }
            _ => return Err(format!("--contact-file and --contact-ms come together; {USAGE}")),
        };
        match given.first() {
            Some((name, _)) => Err(format!("option {name} is unknown; {USAGE}")),
            None => Ok(plan),
        }
    }
}

fn number(name: &str, text: &str, min: u64, max: u64) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("option {name} is {text:?}; allowed are {min} to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "--runc /r --root /x --id a --bundle /b --dir /d --oom-file /o \
        --log-bytes 1000000 --log-files 3 --create-timeout-ms 5000";

    fn parse(text: &str) -> Result<Plan, String> {
        Plan::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn complete_command_line_is_accepted() {
        let plan = parse(GOOD).unwrap();
        assert_eq!((plan.id.as_str(), plan.log_files, plan.stdin), ("a", 3, false));
        assert!(parse(&format!("{GOOD} --stdin yes")).unwrap().stdin);
        assert!(parse(&format!("{GOOD} --terminal yes")).unwrap().terminal && !plan.terminal);
        assert!(plan.leash.is_none());
        let strict = parse(&format!("{GOOD} --contact-file /c --contact-ms 41000")).unwrap();
        assert_eq!(strict.leash.unwrap().over_after, Duration::from_secs(41));
    }

    #[test]
    fn missing_unknown_and_out_of_range_options_are_named() {
        assert!(parse(&GOOD.replace("--id a", "")).unwrap_err().contains("--id"));
        assert!(parse(&format!("{GOOD} --colour red")).unwrap_err().contains("--colour"));
        assert!(parse(&format!("{GOOD} --stdin")).unwrap_err().contains("--stdin"));
        let half = parse(&format!("{GOOD} --contact-ms 41000")).unwrap_err();
        assert!(half.contains("together"), "{half}");
        assert!(parse(&GOOD.replace("--log-files 3", "--log-files 0")).is_err());
        assert!(parse(&GOOD.replace("1000000", "4096")).unwrap_err().contains("131072"));
    }
}
