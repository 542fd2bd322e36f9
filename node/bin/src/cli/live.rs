//! Streams from a task's containers: its logs, and a command run inside.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Args;
use muster_proto::pb;
use pb::exec_request::Message as Ask;
use pb::exec_response::Message as Answer;
use std::io::Write;
use std::time::SystemTime;
use tokio::io::AsyncReadExt;

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
    #[arg(long, default_value = "")]
    container: String,
}

impl Logs {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let since = self.since.map(|seconds| {
            prost_types::Timestamp::from(
                SystemTime::now() - std::time::Duration::from_secs(seconds),
            )
        });
        let request = pb::LogsRequest {
            cluster: context.cluster.clone(),
            task: self.task.clone(),
            container: self.container.clone(),
            follow: self.follow,
            tail: self.tail,
            since,
        };
        let mut lines = context.live(request, async |mut live, r| live.logs(r).await).await?;
        while let Some(line) = context.next(&mut lines).await? {
            self.print(context, &line)?;
        }
        Ok(())
    }

    fn print(&self, context: &Context, line: &pb::LogsResponse) -> Result<(), CliError> {
        let text = String::from_utf8_lossy(&line.line);
        match context.output {
            Format::Json => output::json_line(&serde_json::json!({
                "container": line.container,
                "stream": line.stream,
                "at": output::time(line.at.as_ref()),
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
    #[arg(long, default_value = "")]
    container: String,
    /// Send standard input.
    #[arg(long, short)]
    interactive: bool,
    /// The command, after --.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Most bytes of standard input in one message.
const STDIN_CHUNK_BYTES: usize = 16 * 1024;
/// Messages of standard input that may wait for the network.
const STDIN_QUEUE: usize = 16;

impl Exec {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let (send, receive) = tokio::sync::mpsc::channel(STDIN_QUEUE);
        let start = Ask::Start(pb::exec_request::Start {
            cluster: context.cluster.clone(),
            task: self.task,
            container: self.container,
            command: self.command,
            ..Default::default()
        });
        let request = |message| pb::ExecRequest { message: Some(message) };
        let closed = || CliError::Failed("the session ended before it began".into());
        send.send(request(start)).await.map_err(|_| closed())?;
        let interactive = self.interactive;
        let typed = tokio::spawn(async move {
            if interactive {
                type_in(&send).await;
            }
            // Nobody listens any more if this fails: the command has ended.
            let closed = pb::ExecRequest { message: Some(Ask::StdinClosed(true)) };
            send.send(closed).await.ok();
            // The stream of requests stays open until the command ends.
            send.closed().await;
        });
        let result = relay(context, receive).await;
        typed.abort();
        result
    }
}

/// Sends standard input until it ends or nobody listens any more.
async fn type_in(send: &tokio::sync::mpsc::Sender<pb::ExecRequest>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; STDIN_CHUNK_BYTES];
    while let Ok(read @ 1..) = stdin.read(&mut buffer).await {
        let bytes = buffer.get(..read).unwrap_or_default().to_vec().into();
        let typed = pb::ExecRequest { message: Some(Ask::Stdin(bytes)) };
        if send.send(typed).await.is_err() {
            return;
        }
    }
}

async fn relay(
    context: &Context,
    receive: tokio::sync::mpsc::Receiver<pb::ExecRequest>,
) -> Result<(), CliError> {
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = context.live_once(requests, async |mut live, r| live.exec(r).await).await?;
    while let Some(answer) = context.next(&mut answers).await? {
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
