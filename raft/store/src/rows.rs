//! Rows of the model as stored bytes: `[format of its table][row]`. Same bytes in a snapshot.
//!
//! It does not know what a row says. Invariant: a row stands in the table and under the key that
//! it names itself; anything else is refused as damage.

use crate::codec::{self, Kind};
use muster_model::{Row, Table};

/// Families are named by the model and never renamed.
pub fn name(table: Table) -> &'static str {
    table.name()
}

fn kind(table: Table) -> Kind {
    Kind { name: table.name(), format: table.format() }
}

pub fn encode(row: &Row) -> Result<Vec<u8>, codec::Error> {
    codec::encode(kind(row.table()), row)
}

/// A row of `table`, of any format that this release can read.
pub fn decode(table: Table, bytes: &[u8]) -> Result<Row, codec::Error> {
    let mut kind = kind(table);
    if let Some(&format) = bytes.first()
        && table.reads(format)
    {
        kind.format = format;
    }
    let row: Row = codec::decode(kind, bytes)?;
    if row.table() != table {
        let why = format!("it is a row of {}", row.table().name());
        return Err(codec::Error::Corrupt { what: table.name(), why });
    }
    Ok(row)
}

/// A row that was read under `key`.
pub fn decode_at(table: Table, key: &[u8], bytes: &[u8]) -> Result<Row, codec::Error> {
    let row = decode(table, bytes)?;
    if row.key() != key {
        let why = format!("it names the key {:02x?}", row.key());
        return Err(codec::Error::Corrupt { what: table.name(), why });
    }
    Ok(row)
}

/// A table's number in a snapshot: its place in `Table::ALL`, which only grows.
pub fn number(table: Table) -> u8 {
    Table::ALL.iter().position(|t| *t == table).map_or(u8::MAX, |at| at as u8)
}

pub fn table(number: u8) -> Option<Table> {
    Table::ALL.get(usize::from(number)).copied()
}
