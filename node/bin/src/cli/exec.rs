//! `muster task exec`: a command in a container of a running task.

use super::CliError;
use super::context::Context;
use super::terminal;
use clap::Args;
use muster_model::Error;
use muster_proto::pb;
use pb::exec_request::Message as Ask;
use pb::exec_response::Message as Answer;
use std::io::{Read, Write};
use tokio::signal::unix::{SignalKind, signal};

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
