//! A target for each parser that takes text or bytes from outside, outside the store; what it says
//! must hold for every input stands in each. `cargo xtask fuzz` runs them for long.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a target fails by panicking")]

mod calendar;
mod certificate;
mod config;
mod definition;
mod dispatch;
mod image;
mod layer;
mod names;
mod query;
mod request;
mod signature;
mod world;

/// The text that `input` is, or nothing: what is no UTF-8 never reaches these parsers.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// The first byte chooses; what follows is parsed.
fn chosen(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, &[]), |(first, rest)| (*first, rest))
}

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
