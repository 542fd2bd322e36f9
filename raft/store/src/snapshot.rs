//! A snapshot: the rows of one state, out as checked parts, in behind a marker.
//!
//! It does not know what a row means. Invariants: a part is below one gRPC message and carries
//! its own checksum, the end carries the digest and count of all; nothing of a snapshot is used
//! before its end was checked; a crash while installing leaves the old tables in force.

use crate::limits::{INSTALL_BATCH_BYTES, SNAPSHOT_BYTES_MAX, SNAPSHOT_PART_BYTES};
use crate::machine::AppliedState;
use crate::open::Db;
use crate::rows;
use crate::writer::{Hook, Point, Writer};
use muster_model::{Index, Row, State};
use muster_proto::raft::{SnapshotEnd, SnapshotRows};
use rocksdb::{WriteBatch, WriteOptions};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::Arc;

/// What a snapshot holds: a state, which costs nothing to keep.
#[derive(Clone, Debug)]
pub struct Image {
    pub state: Arc<State>,
}

/// Cuts a state into parts and hands each to `send` until that returns false.
pub fn cut(
    state: &State,
    mut send: impl FnMut(SnapshotRows) -> bool,
) -> Result<SnapshotEnd, crate::codec::Error> {
    let mut digest = Sha256::new();
    let mut data = Vec::with_capacity(SNAPSHOT_PART_BYTES);
    let mut end = SnapshotEnd::default();
    let mut flush = |data: &mut Vec<u8>, end: &mut SnapshotEnd| {
        digest.update(&*data);
        let crc32 = crc32fast::hash(data);
        let data = std::mem::replace(data, Vec::with_capacity(SNAPSHOT_PART_BYTES));
        let part = SnapshotRows { sequence: end.parts, data: data.into(), crc32 };
        end.parts += 1;
        send(part)
    };
    for row in state.rows() {
        let value = rows::encode(&row)?;
        let full = data.len() + value.len() > SNAPSHOT_PART_BYTES;
        if full && !data.is_empty() && !flush(&mut data, &mut end) {
            return Ok(end);
        }
        put_row(&mut data, rows::number(row.table()), &value);
        end.rows += 1;
    }
    if !data.is_empty() {
        flush(&mut data, &mut end);
    }
    end.sha256 = digest.finalize().to_vec().into();
    Ok(end)
}

/// `[table][length, 4 bytes][row]`.
fn put_row(data: &mut Vec<u8>, table: u8, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    data.push(table);
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(value);
}

fn take_row(data: &mut &[u8]) -> Result<Row, String> {
    let torn = || "a row is cut off".to_owned();
    let (number, rest) = data.split_first().ok_or_else(torn)?;
    let table = rows::table(*number).ok_or_else(|| format!("unknown table {number}"))?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(torn)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| torn())?;
    let (value, rest) = rest.split_at_checked(length).ok_or_else(torn)?;
    *data = rest;
    rows::decode(table, value).map_err(|e| e.to_string())
}

/// Collects the parts of a snapshot; gives out the state only if everything adds up.
#[derive(Default)]
pub struct Receiver {
    digest: Sha256,
    parts: u64,
    bytes: u64,
    rows: Vec<Row>,
}

impl Receiver {
    pub fn part(&mut self, part: &SnapshotRows) -> Result<(), String> {
        if part.sequence != self.parts {
            return Err(format!("part {} came where {} was due", part.sequence, self.parts));
        }
        if crc32fast::hash(&part.data) != part.crc32 {
            return Err(format!("part {} is damaged", part.sequence));
        }
        self.bytes += part.data.len() as u64;
        if self.bytes > SNAPSHOT_BYTES_MAX {
            return Err(format!("larger than {SNAPSHOT_BYTES_MAX} bytes"));
        }
        self.digest.update(&part.data);
        self.parts += 1;
        let mut data = &part.data[..];
        while !data.is_empty() {
            self.rows.push(take_row(&mut data)?);
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn rows_arrived(&self) -> u64 {
        self.rows.len() as u64
    }

    /// `applied`: the log index that the snapshot is the result of.
    pub fn end(self, end: &SnapshotEnd, applied: Index) -> Result<Image, String> {
        if end.parts != self.parts || end.rows != self.rows.len() as u64 {
            return Err(format!(
                "{} of {} parts, {} of {} rows arrived",
                self.parts,
                end.parts,
                self.rows.len(),
                end.rows
            ));
        }
        if self.digest.finalize().as_slice() != &end.sha256[..] {
            return Err("the digest of all parts does not match".into());
        }
        let state = State::restore(self.rows.into_iter(), applied).map_err(|e| e.to_string())?;
        Ok(Image { state: Arc::new(state) })
    }
}

/// Writes the rows of a state beside the present tables, then switches over in one write.
pub async fn install(
    db: Arc<Db>,
    writer: &Writer,
    hook: &Hook,
    applied: &AppliedState,
) -> io::Result<()> {
    let (hook, state) = (hook.clone(), applied.state.clone());
    let fill = move || fill_generation(&db, &hook, &state).map_err(io::Error::other);
    let generation = tokio::task::spawn_blocking(fill).await.map_err(io::Error::other)??;
    writer.install(generation, applied.clone()).await
}

/// The rows are durable when this returns, before the switch that needs them begins.
fn fill_generation(
    db: &Db,
    hook: &Hook,
    state: &State,
) -> Result<u8, Box<dyn std::error::Error + Send + Sync>> {
    let generation = db.generation()? ^ 1;
    db.begin_install(generation)?;
    hook(Point::InstallMarked);
    let options = WriteOptions::default();
    let mut batch = WriteBatch::default();
    let mut bytes = 0;
    for row in state.rows() {
        bytes += db.put_row(&mut batch, generation, &row)?;
        if bytes >= INSTALL_BATCH_BYTES {
            db.write(std::mem::take(&mut batch), &options)?;
            hook(Point::InstallRows);
            bytes = 0;
        }
    }
    db.write(batch, &options)?;
    db.sync()?;
    hook(Point::InstallRows);
    Ok(generation)
}
