//! What a request would do, shown: `muster task run --dry-run` and `muster service plan`.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use muster_proto::{json, pb};

/// Where each task would go and why, or why nowhere.
///
/// # Errors
/// `Failed` if a task would find no place.
pub fn show_run(context: &Context, told: &pb::Foresight) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&json::to_value(told))?,
        Format::Table => output::print(&run_table(told))?,
    }
    unplaced(told, "muster instance list")
}

/// What would stop and start, round by round.
///
/// # Errors
/// `Failed` if a task would find no place, or the service would not get to its end.
pub fn show_plan(context: &Context, name: &str, told: &pb::Foresight) -> Result<(), CliError> {
    match context.output {
        Format::Json => output::json(&json::to_value(told))?,
        Format::Table => output::print(&plan_text(name, told))?,
    }
    unplaced(told, "muster instance list")?;
    match told.left_count {
        0 => Ok(()),
        left => Err(CliError::Failed(format!(
            "{left} tasks of an older deployment would stay; try other \
             --minimum-healthy-percent and --maximum-percent"
        ))),
    }
}

fn run_table(told: &pb::Foresight) -> String {
    let started = told.rounds.iter().flat_map(|round| &round.started);
    let placed = started.zip(1..).flat_map(|(task, number): (_, u32)| {
        let cells =
            [number.to_string(), task.instance_name.clone(), task.availability_zone.clone()];
        because(cells.into(), &task.reasons)
    });
    let nowhere = told.waiting.iter().flat_map(|wait| {
        let cells = [format!("{} more", wait.count), "nowhere".into(), String::new()];
        because(cells.into(), &[failure(wait)])
    });
    output::table(&["TASK", "HOST", "ZONE", "WHY"], placed.chain(nowhere)) + &notes(told)
}

fn plan_text(name: &str, told: &pb::Foresight) -> String {
    let mut text = format!(
        "service {name} would stop {}, start {} and keep {} tasks",
        told.stopped_count, told.started_count, told.kept_count
    );
    if told.moved_count > 0 {
        text.push_str(&format!("; {} would move to another host", told.moved_count));
    }
    text.push_str(".\n");
    let rounds = told.rounds.iter().zip(1..).flat_map(|(round, number)| rows(number, round));
    let nowhere = told.waiting.iter().flat_map(|wait| {
        let cells = ["end", "", "wait", "nowhere", "", ""].map(String::from);
        because(cells.into(), &[format!("{} tasks: {}", wait.count, failure(wait))])
    });
    let rows: Vec<Vec<String>> = rounds.chain(nowhere).collect();
    if !rows.is_empty() {
        let header = ["ROUND", "AFTER", "DO", "HOST", "ZONE", "DEFINITION", "TASK OR REASON"];
        text.push('\n');
        text.push_str(&output::table(&header, rows));
    }
    text + &notes(told)
}

/// A round's times are the earliest: what starts is taken to run at once.
fn rows(number: u32, round: &pb::ForeseenRound) -> Vec<Vec<String>> {
    let cells = |what: &str, task: &pb::ForeseenTask| {
        vec![
            number.to_string(),
            format!("{} s", round.after_seconds),
            what.to_owned(),
            task.instance_name.clone(),
            task.availability_zone.clone(),
            output::short(&task.task_definition_arn).to_owned(),
        ]
    };
    let stopped = round
        .stopped
        .iter()
        .flat_map(|task| because(cells("stop", task), &[output::short(&task.task_arn).to_owned()]));
    let started =
        round.started.iter().flat_map(|task| because(cells("start", task), &task.reasons));
    stopped.chain(started).collect()
}

/// A row, and one more for each further reason.
fn because(mut cells: Vec<String>, reasons: &[String]) -> Vec<Vec<String>> {
    let width = cells.len();
    cells.push(reasons.first().cloned().unwrap_or_default());
    let further = reasons.iter().skip(1).map(|reason| {
        let mut row = vec![String::new(); width];
        row.push(reason.clone());
        row
    });
    std::iter::once(cells).chain(further).collect()
}

fn failure(wait: &pb::ForeseenWait) -> String {
    match &wait.failure {
        Some(failure) => format!("{} {}", failure.reason, failure.detail),
        None => "it was not looked at yet".into(),
    }
}

fn notes(told: &pb::Foresight) -> String {
    told.notes.iter().fold(String::new(), |all, note| all + "\n" + note + "\n")
}

fn unplaced(told: &pb::Foresight, see: &str) -> Result<(), CliError> {
    let waiting: i32 = told.waiting.iter().map(|wait| wait.count).sum();
    if waiting == 0 {
        return Ok(());
    }
    let all = told.started_count.saturating_add(waiting);
    Err(CliError::Failed(format!("{waiting} of {all} tasks would not be placed; see `{see}`")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::{Arguments, Command, service, task};
    use super::*;
    use clap::Parser;

    fn parsed(words: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(words.split(' ')).map(|arguments| arguments.command)
    }

    #[test]
    fn a_plan_takes_the_words_of_an_update_and_a_dry_run_those_of_a_run() {
        let words = "web --task-definition web:2 --desired-count 3 --minimum-healthy-percent 50 \
                     --strategy binpack:memory --force-new-deployment";
        let (plan, update) = ["plan", "update"]
            .map(|verb| parsed(&format!("muster service {verb} {words}")).unwrap())
            .into();
        let inner = |command: Command| match command {
            Command::Service {
                command: service::Command::Plan(update) | service::Command::Update(update),
            } => format!("{update:?}"),
            other => format!("another command: {other:?}"),
        };
        let (plan, update) = (inner(plan), inner(update));
        assert_eq!(plan, update);
        assert!(plan.contains("web:2"), "{plan}");
        let run = "muster task run web --count 3 --constraint distinctInstance --dry-run";
        match parsed(run).unwrap() {
            Command::Task { command: task::Command::Run(run) } => assert!(run.dry_run),
            other => panic!("{other:?}"),
        }
        assert!(parsed("muster service plan").is_err());
    }

    fn task(host: &str, reasons: &[&str]) -> pb::ForeseenTask {
        pb::ForeseenTask {
            instance_name: host.into(),
            availability_zone: "az-a".into(),
            task_definition_arn: "arn:aws:ecs:local:0:task-definition/web:2".into(),
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            ..Default::default()
        }
    }

    fn told() -> pb::Foresight {
        let failure = pb::Failure {
            reason: "RESOURCE:MEMORY".into(),
            detail: "no container instance fits".into(),
            ..Default::default()
        };
        let stopped =
            pb::ForeseenTask { task_arn: "arn:task/default/7d2f".into(), ..task("b", &[]) };
        pb::Foresight {
            rounds: vec![pb::ForeseenRound {
                after_seconds: 10,
                stopped: vec![stopped],
                started: vec![task("a", &["2 candidates", "random: drawn from 2"])],
                waiting_count: 2,
            }],
            started_count: 1,
            stopped_count: 1,
            moved_count: 1,
            waiting: vec![pb::ForeseenWait { count: 2, failure: Some(failure) }],
            notes: vec!["a note".into()],
            ..Default::default()
        }
    }

    #[test]
    fn a_run_says_where_each_task_would_go_and_why() {
        let text = run_table(&told());
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["1", "a", "az-a", "2", "candidates"]);
        assert_eq!(rows[2], ["random:", "drawn", "from", "2"]);
        assert_eq!(rows[3][..4], ["2", "more", "nowhere", "RESOURCE:MEMORY"]);
        assert!(text.ends_with("\na note\n"), "{text}");
        let failed = unplaced(&told(), "muster instance list").err().map(|e| e.to_string());
        let words = "2 of 3 tasks would not be placed; see `muster instance list`";
        assert_eq!(failed.as_deref(), Some(words));
    }

    #[test]
    fn a_plan_shows_stops_before_starts_round_by_round() {
        let text = plan_text("web", &told());
        let first = "service web would stop 1, start 1 and keep 0 tasks; 1 would move to another";
        assert!(text.starts_with(first), "{text}");
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[3], ["1", "10", "s", "stop", "b", "az-a", "web:2", "7d2f"]);
        assert_eq!(rows[4][..7], ["1", "10", "s", "start", "a", "az-a", "web:2"]);
        assert_eq!(rows[6][..4], ["end", "wait", "nowhere", "2"]);
        let nothing = plan_text("web", &pb::Foresight { kept_count: 3, ..Default::default() });
        assert_eq!(nothing, "service web would stop 0, start 0 and keep 3 tasks.\n");
    }
}
