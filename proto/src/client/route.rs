//! Whom to ask next, and the channels there are. It does not wait and does not retry.

use super::{CHANNELS_MAX, Dialer};
use std::collections::BTreeMap;
use tonic::transport::Channel;

#[derive(Default)]
pub struct Route {
    /// The manager that answered last, or that a manager named as the leader.
    favourite: Option<String>,
    turn: usize,
    channels: BTreeMap<String, Channel>,
}

impl Route {
    /// Where the next call goes first; `None`: the managers in turn.
    pub fn prefer(&mut self, address: Option<String>) {
        self.favourite = address;
    }

    /// The favourite, else the managers in turn; one that is being asked only if all are.
    pub fn pick(&mut self, endpoints: &[String], asked: &[String]) -> String {
        // A favourite that keeps a call waiting is none for the calls after it.
        self.favourite.take_if(|favourite| asked.contains(favourite));
        if let Some(favourite) = &self.favourite {
            return favourite.clone();
        }
        let in_turn = |turn: usize| &endpoints[turn % endpoints.len()];
        let turns = self.turn..self.turn.saturating_add(endpoints.len());
        let turn = turns.clone().find(|turn| !asked.contains(in_turn(*turn))).unwrap_or(self.turn);
        self.turn = (turn + 1) % endpoints.len();
        in_turn(turn).clone()
    }

    /// The channel to an address, made on first use.
    pub fn channel(&mut self, address: &str, dial: &Dialer) -> Result<Channel, String> {
        if let Some(channel) = self.channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = dial(address)?;
        if self.channels.len() >= CHANNELS_MAX {
            self.channels.clear();
        }
        self.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}
