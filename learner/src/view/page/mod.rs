//! The live page: a run in a browser while it trains.
//!
//! ```text
//!   metrics.jsonl, evaluator, run --> feed --events--> follow --> clients
//!                      episodes ---^    `-- history: the records so far, thinned
//!   browser --> server --> gate --> routes: the page's files, `events`, `recording.json` (download)
//! ```
//!
//! `feed` never waits for a client: a trainer or an evaluator that reports to it continues at once. `follow` passes its
//! events on to one client, and ends when the client falls too far behind. `download` sends a recording to one client
//! within a time limit. `gate` answers requests that the page does not permit. `server` holds the port.

mod download;
mod episodes;
mod feed;
mod follow;
mod gate;
mod history;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    feed::{Feed, Phase},
    server::{LivePage, Watched},
};
