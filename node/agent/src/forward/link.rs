//! A socket to a receiver, opened when there is something to send and given up when it fails.
//!
//! Every wait has a deadline, so a receiver that does not read is one that failed. What was sent is
//! as sure as the transport makes it: a datagram is sent or not, a stream holds what the kernels
//! of both sides hold, and only an acknowledgement says that it arrived.

use super::encode::{Parcel, acknowledged};
use muster_model::log_driver::{Address, Receiver};
use nix::libc;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio::time::timeout;

/// Where the journal listens.
pub const JOURNAL: &str = "/run/systemd/journal/socket";
/// How long a receiver may take to be found and to take the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take nothing of what is sent.
const PROGRESS_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to acknowledge.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// An acknowledgement is some forty bytes.
const ANSWER_BYTES_MAX: usize = 1024;

pub struct Link {
    address: Address,
    socket: Option<Socket>,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
}

/// What came of sending a parcel, or the rest of one.
#[derive(Debug)]
pub struct Failed {
    /// Messages from the first on that need not be sent again.
    pub sent: usize,
    pub error: io::Error,
}

impl Link {
    /// `journal` is where the journal listens.
    pub fn new(receiver: &Receiver, journal: &Path) -> Self {
        let address = match receiver {
            Receiver::Syslog { to, .. }
            | Receiver::Fluentd { to, .. }
            | Receiver::Gelf { to, .. } => to.clone(),
            Receiver::Journald => Address::Unixgram(journal.display().to_string()),
        };
        Self { address, socket: None }
    }

    /// Sends a parcel's messages from `from` on.
    ///
    /// # Errors
    /// The receiver is away, or does not read. The connection is given up.
    pub async fn send(&mut self, parcel: &Parcel, from: usize) -> Result<(), Failed> {
        let mut sent = from;
        let result = self.try_send(parcel, &mut sent).await;
        result.map_err(|error| {
            self.socket = None;
            Failed { sent, error }
        })
    }

    async fn try_send(&mut self, parcel: &Parcel, sent: &mut usize) -> io::Result<()> {
        if *sent >= parcel.messages.len() {
            return Ok(());
        }
        if self.socket.as_ref().is_some_and(Socket::is_closed) {
            self.socket = None;
        }
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(in_time(CONNECT_WITHIN, open(&self.address)).await?),
        };
        match socket {
            Socket::Tcp(stream) => stream_all(stream, parcel, *sent).await?,
            Socket::Unix(stream) => stream_all(stream, parcel, *sent).await?,
            Socket::Udp(udp) => {
                while let Some(message) = parcel.messages.get(*sent) {
                    let done = datagram(udp.send(message), message.len()).await;
                    // What is refused now is the one before.
                    done.inspect_err(|_| *sent = sent.saturating_sub(1))?;
                    *sent += 1;
                }
                if let Some(error) = udp.take_error()? {
                    *sent = sent.saturating_sub(1);
                    return Err(error);
                }
            }
            Socket::Unixgram(unix) => {
                while let Some(message) = parcel.messages.get(*sent) {
                    datagram(unix.send(message), message.len()).await?;
                    *sent += 1;
                }
            }
        }
        Ok(())
    }
}

impl Socket {
    /// A receiver that went away is noticed before anything is sent to it.
    fn is_closed(&self) -> bool {
        let mut answer = [0; 1];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut answer),
            Self::Unix(stream) => stream.try_read(&mut answer),
            Self::Udp(_) | Self::Unixgram(_) => return false,
        };
        match read {
            Ok(0) => true,
            Ok(_) => false,
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

async fn open(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp(host) => TcpStream::connect(host.as_str()).await.map(Socket::Tcp),
        Address::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
        Address::Udp(host) => {
            let found = tokio::net::lookup_host(host.as_str()).await?.next();
            let to = found.ok_or_else(|| io::Error::other(format!("{host} has no address")))?;
            let any: SocketAddr = match to {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(to).await?;
            Ok(Socket::Udp(socket))
        }
        Address::Unixgram(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Ok(Socket::Unixgram(socket))
        }
    }
}

async fn in_time<T>(within: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || {
        let text = format!("nothing happened within {} s", within.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    timeout(within, work).await.unwrap_or_else(|_| Err(late()))
}

async fn datagram(send: impl Future<Output = io::Result<usize>>, length: usize) -> io::Result<()> {
    match in_time(PROGRESS_WITHIN, send).await {
        // Nothing would make it fit: the next one may.
        Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => {
            metrics::counter!("muster_agent_log_lines_too_long_total").increment(1);
            tracing::warn!(bytes = length, "a log line is longer than a datagram; left out");
            Ok(())
        }
        done => done.map(drop),
    }
}

/// Messages of a stream go again as a whole: how far the receiver got, nobody knows.
async fn stream_all<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    stream: &mut S,
    parcel: &Parcel,
    from: usize,
) -> io::Result<()> {
    let bytes = parcel.messages[from..].concat();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let taken = in_time(PROGRESS_WITHIN, stream.write(rest)).await?;
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[taken..];
    }
    match &parcel.chunk {
        Some(chunk) => in_time(ACKNOWLEDGED_WITHIN, answer(stream, chunk)).await,
        None => Ok(()),
    }
}

async fn answer<S: AsyncReadExt + Unpin>(stream: &mut S, chunk: &str) -> io::Result<()> {
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES_MAX {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match acknowledged(&answer) {
            Some(told) if told == chunk => return Ok(()),
            Some(_) => break,
            None => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it acknowledged something else"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn link(address: Address) -> Link {
        Link { address, socket: None }
    }

    fn parcel(messages: &[&[u8]]) -> Parcel {
        Parcel { messages: messages.iter().map(|m| m.to_vec()).collect(), chunk: None }
    }

    async fn received(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = vec![0; 1024];
        let length = timeout(CONNECT_WITHIN, socket.recv(&mut buffer)).await.unwrap().unwrap();
        buffer[..length].to_vec()
    }

    #[tokio::test]
    async fn datagrams_to_a_port_where_nobody_listens_are_sent_again() {
        let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut link = link(Address::Udp(free.to_string()));
        let three = parcel(&[b"a", b"b", b"c"]);
        let Failed { sent, error } = link.send(&three, 0).await.unwrap_err();
        assert_eq!((sent, error.kind()), (0, io::ErrorKind::ConnectionRefused));
        let receiver = UdpSocket::bind(free).await.unwrap();
        link.send(&three, sent).await.unwrap();
        for wanted in [b"a", b"b", b"c"] {
            assert_eq!(received(&receiver).await, wanted);
        }
    }

    #[tokio::test]
    async fn what_fits_no_datagram_is_left_out() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut link = link(Address::Udp(receiver.local_addr().unwrap().to_string()));
        link.send(&parcel(&[b"a", &[b'x'; 70_000], b"c"]), 0).await.unwrap();
        assert_eq!(
            (received(&receiver).await, received(&receiver).await),
            (b"a".into(), b"c".into())
        );
    }

    /// The clock of this test waits for nobody.
    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_reads_is_given_up_and_goes_again_as_a_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut link = link(Address::Tcp(listener.local_addr().unwrap().to_string()));
        let large = parcel(&[b"first", &vec![b'x'; 64 << 20]]);
        let Failed { sent, error } = link.send(&large, 0).await.unwrap_err();
        assert_eq!((sent, error.kind()), (0, io::ErrorKind::TimedOut));
        assert!(link.socket.is_none());
    }

    #[tokio::test]
    async fn a_receiver_that_went_away_is_found_again_before_anything_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut link = link(Address::Tcp(listener.local_addr().unwrap().to_string()));
        for wanted in ["one", "two"] {
            link.send(&parcel(&[wanted.as_bytes()]), 0).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = vec![0; wanted.len()];
            stream.read_exact(&mut text).await.unwrap();
            assert_eq!(text, wanted.as_bytes());
            drop(stream);
            let closed = async {
                while !link.socket.as_ref().unwrap().is_closed() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(CONNECT_WITHIN, closed).await.unwrap();
        }
    }
}
