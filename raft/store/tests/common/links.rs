//! The network between managers: a relay per direction and pair that can fall silent, as a cut
//! cable does: no reset, no end, just nothing.
#![allow(clippy::unwrap_used)]

use muster_identity::Connector;
use muster_model::RaftId;
use muster_store::Trust;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Which managers are cut off from all others.
#[derive(Default)]
pub struct Links {
    cut: watch::Sender<BTreeSet<u64>>,
    /// Counts the deaths of each manager: its connections die with it.
    dead: watch::Sender<BTreeMap<u64, u64>>,
    relays: Mutex<BTreeMap<(u64, String), String>>,
    owners: Mutex<BTreeMap<String, u64>>,
}

impl Links {
    pub fn cut(&self, id: u64) {
        self.cut.send_modify(|cut| {
            cut.insert(id);
        });
    }

    pub fn mend(&self, id: u64) {
        self.cut.send_modify(|cut| {
            cut.remove(&id);
        });
    }

    /// Resets every connection from and to a manager, as the kernel does when a process dies.
    pub fn reset(&self, id: u64) {
        self.dead.send_modify(|dead| *dead.entry(id).or_default() += 1);
    }

    /// Says whose address this is, so that cutting a manager off works in both directions.
    pub fn own(&self, id: u64, address: &str) {
        self.owners.lock().unwrap().insert(address.to_owned(), id);
    }

    pub fn trust(self: &Arc<Self>, from: u64, inner: Connector) -> LinkedTrust {
        LinkedTrust { links: self.clone(), from, inner }
    }

    /// The relay from a manager to an address; made when first asked for.
    fn relay(self: &Arc<Self>, from: u64, address: &str) -> String {
        let mut relays = self.relays.lock().unwrap();
        let known = relays.entry((from, address.to_owned()));
        known
            .or_insert_with(|| {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                listener.set_nonblocking(true).unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                let relayed = listener.local_addr().unwrap().to_string();
                let to = self.owners.lock().unwrap().get(address).copied().unwrap_or(0);
                let silent = self.cut.subscribe();
                let dead = self.dead.subscribe();
                tokio::spawn(accept(listener, address.to_owned(), from, to, silent, dead));
                relayed
            })
            .clone()
    }
}

async fn accept(
    listener: TcpListener,
    address: String,
    from: u64,
    to: u64,
    silent: watch::Receiver<BTreeSet<u64>>,
    dead: watch::Receiver<BTreeMap<u64, u64>>,
) {
    let deaths =
        move |dead: &BTreeMap<u64, u64>| (dead.get(&from).copied(), dead.get(&to).copied());
    while let Ok((near, _)) = listener.accept().await {
        let (address, silent, mut dead) = (address.clone(), silent.clone(), dead.clone());
        tokio::spawn(async move {
            let born = deaths(&dead.borrow());
            open(&mut silent.clone(), from, to).await;
            let Ok(far) = TcpStream::connect(address).await else { return };
            // Otherwise every small message waits 40 ms for an acknowledgement.
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::select! {
                () = pump(near_read, far_write, from, to, silent.clone()) => {}
                () = pump(far_read, near_write, from, to, silent) => {}
                _ = dead.wait_for(|dead| deaths(dead) != born) => {}
            }
        });
    }
}

/// Returns when neither end is cut off.
async fn open(silent: &mut watch::Receiver<BTreeSet<u64>>, from: u64, to: u64) {
    let _ = silent.wait_for(|cut| !cut.contains(&from) && !cut.contains(&to)).await;
}

async fn pump(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    from: u64,
    to: u64,
    mut silent: watch::Receiver<BTreeSet<u64>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(length) = read.read(&mut buffer).await else { return };
        if length == 0 {
            return;
        }
        open(&mut silent, from, to).await;
        if write.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// The real trust, over relays.
pub struct LinkedTrust {
    links: Arc<Links>,
    from: u64,
    inner: Connector,
}

impl Trust for LinkedTrust {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        self.inner.channel(&self.links.relay(self.from, address))
    }
    fn sender(&self, request: &Request<()>) -> Result<RaftId, Status> {
        self.inner.sender(request)
    }
}
