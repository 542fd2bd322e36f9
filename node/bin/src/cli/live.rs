//! Streams from a task's containers: its logs, and a command run inside.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use super::terminal;
use clap::Args;
use muster_model::Error;
use muster_proto::pb;
use pb::exec_request::Message as Ask;
use pb::exec_response::Message as Answer;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::SystemTime;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
pub struct Logs {
    task: String,
    /// Go on as more is written; ends with the task.
    #[arg(long, short)]
    follow: bool,
    /// This many lines from the end.
    #[arg(long)]
    tail: Option<i32>,
    /// Only lines of the last so many seconds.
    #[arg(long)]
    since: Option<u64>,
    /// One container; otherwise all, each line under its container's name.
    #[arg(long, default_value = "", hide_default_value = true)]
    container: String,
}

/// How far the log of one container was printed: the moment of its newest line, and its lines of
/// that moment.
#[derive(Default)]
struct Place {
    at: (i64, i32),
    lines: Vec<pb::LogsResponse>,
    /// After a break the moment is read again: what was printed of it.
    to_skip: Vec<pb::LogsResponse>,
}

fn moment(line: &pb::LogsResponse) -> (i64, i32) {
    line.at.as_ref().map_or((0, 0), |at| (at.seconds, at.nanos))
}

impl Place {
    fn is_new(&mut self, line: &pb::LogsResponse) -> bool {
        let at = moment(line);
        if at < self.at {
            return false;
        }
        if at > self.at {
            (self.at, self.lines) = (at, Vec::new());
            self.to_skip.clear();
        }
        if let Some(known) = self.to_skip.iter().position(|printed| printed == line) {
            self.to_skip.remove(known);
            return false;
        }
        self.lines.push(line.clone());
        true
    }
}

/// Asks again from the earliest moment that some container may have gone on from.
fn resume(request: &mut pb::LogsRequest, places: &mut BTreeMap<String, Place>) {
    let Some(&(seconds, nanos)) = places.values().map(|place| &place.at).min() else { return };
    request.since = Some(prost_types::Timestamp { seconds, nanos });
    request.tail = None;
    for place in places.values_mut() {
        place.to_skip.clone_from(&place.lines);
    }
}

impl Logs {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let since = self.since.map(|seconds| {
            prost_types::Timestamp::from(
                SystemTime::now() - std::time::Duration::from_secs(seconds),
            )
        });
        let mut request = pb::LogsRequest {
            cluster: context.cluster.clone(),
            task: self.task.clone(),
            container: self.container.clone(),
            follow: self.follow,
            tail: self.tail,
            since,
        };
        let mut places = BTreeMap::new();
        loop {
            match self.read(context, request.clone(), &mut places).await {
                Err(error) if self.follow && context.follow_on(&error).await => {
                    resume(&mut request, &mut places);
                }
                ended => return ended,
            }
        }
    }

    async fn read(
        &self,
        context: &Context,
        request: pb::LogsRequest,
        places: &mut BTreeMap<String, Place>,
    ) -> Result<(), CliError> {
        let mut lines = context.live(request, async |mut live, r| live.logs(r).await).await?;
        while let Some(line) = context.next(&mut lines).await? {
            if places.entry(line.container.clone()).or_default().is_new(&line) {
                self.print(context, &line)?;
            }
        }
        Ok(())
    }

    fn print(&self, context: &Context, line: &pb::LogsResponse) -> Result<(), CliError> {
        let text = String::from_utf8_lossy(&line.line);
        match context.output {
            Format::Json => output::json_line(&serde_json::json!({
                "container": line.container,
                "stream": line.stream,
                "at": line.at.as_ref().map(ToString::to_string),
                "line": text,
            })),
            Format::Table if self.container.is_empty() => {
                output::print(&format!("{} | {text}\n", line.container))
            }
            Format::Table => output::print(&format!("{text}\n")),
        }
    }
}

#[derive(Debug, Args)]
pub struct Exec {
    task: String,
    /// Container [default: the only one].
    #[arg(long, default_value = "", hide_default_value = true)]
    container: String,
    /// Send standard input.
    #[arg(long, short)]
    interactive: bool,
    /// Give the command a terminal; with -i it is this one, until the command ends.
    #[arg(long, short)]
    tty: bool,
    /// The command, after --.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Most bytes of standard input in one message.
const STDIN_CHUNK_BYTES: usize = 16 * 1024;
/// Messages of standard input that may wait for the network.
const STDIN_QUEUE: usize = 16;

type Asks = tokio::sync::mpsc::Sender<pb::ExecRequest>;

fn request(message: Ask) -> pb::ExecRequest {
    pb::ExecRequest { message: Some(message) }
}

/// How a session ended.
enum Ended {
    Relayed(Result<(), CliError>),
    Told,
}

impl Exec {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let takes_over = self.interactive && self.tty;
        if takes_over && !terminal::is_there() {
            return Err(CliError::Usage(
                "--interactive with --tty needs a terminal on standard input; leave --tty out to \
                 send what is piped in"
                    .into(),
            ));
        }
        let (send, receive) = tokio::sync::mpsc::channel(STDIN_QUEUE);
        let (rows, columns) = if self.tty { terminal::size() } else { (0, 0) };
        let start = Ask::Start(pb::exec_request::Start {
            cluster: context.cluster.clone(),
            task: self.task,
            container: self.container,
            command: self.command,
            tty: self.tty,
            rows: rows.into(),
            columns: columns.into(),
        });
        // An empty queue takes both.
        send.try_send(request(start)).ok();
        if !self.interactive {
            send.try_send(request(Ask::StdinClosed(true))).ok();
        }
        let told = stopped().map_err(CliError::Output)?;
        let resizes = match self.tty {
            true => Some(tokio::spawn(tell_size(send.clone())?)),
            false => None,
        };
        let raw = takes_over.then(terminal::Raw::enter).transpose().map_err(CliError::Output)?;
        if self.interactive {
            type_in(send.clone());
        }
        let ended = tokio::select! {
            result = relay(context, receive) => Ended::Relayed(result),
            () = told => Ended::Told,
        };
        // Before anything is said.
        drop(raw);
        if let Some(resizes) = resizes {
            resizes.abort();
        }
        // The stream of requests stays open until here.
        drop(send);
        match ended {
            Ended::Relayed(result) => result,
            Ended::Told => Err(CliError::Failed("told to stop; so is the command".into())),
        }
    }
}

/// Resolves when this process is told to end in a way that would leave the terminal as it is.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// Tells each new size of the terminal until nobody listens any more.
fn tell_size(send: Asks) -> Result<impl Future<Output = ()>, CliError> {
    let mut changes = signal(SignalKind::window_change()).map_err(CliError::Output)?;
    Ok(async move {
        while changes.recv().await.is_some() {
            let (rows, columns) = terminal::size();
            let (rows, columns) = (rows.into(), columns.into());
            let resize = Ask::Resize(pb::exec_request::Resize { rows, columns });
            if send.send(request(resize)).await.is_err() {
                return;
            }
        }
    })
}

/// Sends standard input until it ends or nobody listens any more. A thread of its own, which ends
/// with the process: a read that waits for a person cannot be called off, and whoever waits for it
/// would keep the user until the next key.
fn type_in(send: Asks) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; STDIN_CHUNK_BYTES];
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            let bytes = buffer.get(..read).unwrap_or_default().to_vec().into();
            if send.blocking_send(request(Ask::Stdin(bytes))).is_err() {
                return;
            }
        }
        // Nobody listens any more if this fails: the command has ended.
        send.blocking_send(request(Ask::StdinClosed(true))).ok();
    });
}

async fn relay(
    context: &Context,
    receive: tokio::sync::mpsc::Receiver<pb::ExecRequest>,
) -> Result<(), CliError> {
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = context.live_once(requests, async |mut live, r| live.exec(r).await).await?;
    let broke = |error: CliError| match error {
        CliError::Broke(Error::Unavailable { why } | Error::UnknownOutcome { why }) => {
            CliError::Failed(format!("the session broke, the command may run on or not: {why}"))
        }
        other => other,
    };
    while let Some(answer) = context.next(&mut answers).await.map_err(broke)? {
        match answer.message {
            Some(Answer::Stdout(bytes)) => {
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush()).map_err(CliError::Output)?;
            }
            Some(Answer::Stderr(bytes)) => {
                std::io::stderr().lock().write_all(&bytes).map_err(CliError::Output)?;
            }
            Some(Answer::ExitCode(0)) => return Ok(()),
            Some(Answer::ExitCode(code)) => return Err(CliError::Remote(code)),
            None => {}
        }
    }
    Err(CliError::Failed("the session ended without an exit code".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: &str, seconds: i64, text: &str) -> pb::LogsResponse {
        pb::LogsResponse {
            container: container.into(),
            at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            line: text.as_bytes().to_vec().into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_log_that_is_followed_through_another_manager_says_each_line_once() {
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        let show = |places: &mut BTreeMap<String, Place>, line: &pb::LogsResponse| {
            places.entry(line.container.clone()).or_default().is_new(line)
        };
        for line in
            [line("a", 1, "x"), line("b", 1, "y"), line("a", 5, "same"), line("a", 5, "same")]
        {
            assert!(show(&mut places, &line), "{line:?}");
        }
        let mut request = pb::LogsRequest { tail: Some(3), ..Default::default() };
        resume(&mut request, &mut places);
        assert_eq!((request.since.unwrap_or_default().seconds, request.tail), (1, None));
        let again = [
            (line("a", 1, "x"), false),
            (line("b", 1, "y"), false),
            (line("b", 3, "while nobody looked"), true),
            (line("a", 5, "same"), false),
            (line("a", 5, "same"), false),
            (line("a", 5, "same"), true),
            (line("a", 6, "new"), true),
        ];
        for (line, new) in again {
            assert_eq!(show(&mut places, &line), new, "{line:?}");
        }
    }
}
