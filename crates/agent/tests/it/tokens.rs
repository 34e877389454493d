//! A backend that takes each batch's name once, as ClickHouse does with an insert's token: every event is there once,
//! whenever the agent dies.

use crate::s3::Store;
use crate::support::{Agent, Log, Place, assert_exactly, poll};
use std::net::SocketAddr;

const ADMIN: &str = "admin: {listen: \"127.0.0.1:0\"}";

/// Batches for all indexes and for each one.
const TOKENS: [&str; 2] = ["{batch_id}", "{batch_id}.{index}"];

fn configure(place: &Place, address: SocketAddr, token: &str, batch: &str, more: &str) {
    let output = format!(
        "search: {{type: http, url: \"http://{address}/in\", query: {{token: \"{token}\"}}, filter: none, \
         batch: {{{batch}}}{more}}}"
    );
    place.configure(&output, ADMIN);
}

fn delivered(agent: &Agent) -> u64 {
    agent.status().get("search", "delivered")
}

/// The agent dies while its requests are on their way. They arrive before the next one asks, or after that.
#[test]
fn a_request_that_outlives_the_agent_is_taken_once() {
    for (token, arrives, more) in [
        (TOKENS[0], "before", ""),
        (TOKENS[0], "after", ""),
        (TOKENS[1], "before", ""),
        // The bytes of the batches are others after the start.
        (TOKENS[1], "after", ", compression: zstd"),
    ] {
        let place = Place::new();
        let (store, address) = Store::start();
        configure(&place, address, token, "age: 200ms, events: 20", "");
        let mut log = Log::create(&place);
        let agent = Agent::start(&place);
        log.append(30);
        agent.until("the first are there", || delivered(&agent) == 30);
        store.with(|state| state.holding = true);
        log.append(110);
        agent.until("requests are under way", || store.with(|state| state.held > 1));
        agent.kill();
        let held = store.with(|state| state.held);
        if arrives == "before" {
            store.with(|state| state.holding = false);
            poll("the requests are carried out", || store.with(|state| state.held == 0), String::new);
        }
        // Other batches than last time, if they were not written down.
        configure(&place, address, token, "age: 300ms, events: 33", more);
        log.append(20);
        let agent = Agent::start(&place);
        if arrives == "after" {
            agent.until("the new requests are under way", || store.with(|state| state.held > held));
            store.with(|state| state.holding = false);
        }
        agent.until("all is there", || delivered(&agent) == 160);
        let status = agent.status();
        status.assert_law();
        assert_eq!(status.get("search", "lost_bytes"), 0, "{status:?}");
        assert_eq!(agent.stop(), 0);
        poll("the old requests are done", || store.with(|state| state.held == 0), String::new);
        assert_exactly(&format!("{token} {arrives}"), &store.records(), 160);
    }
}

#[test]
fn killed_again_and_again_every_event_is_taken_once() {
    for token in TOKENS {
        let place = Place::new();
        let (store, address) = Store::start();
        // Cut by age alone: where, is never the same twice.
        configure(&place, address, token, "age: 30ms", "");
        let mut log = Log::create(&place);
        for round in 0..6 {
            let agent = Agent::start(&place);
            let before = store.with(|state| state.log.len());
            log.append(100);
            if round % 3 == 1 {
                log.rotate();
            }
            agent.until("some requests", || {
                log.append(3);
                store.with(|state| state.log.len()) > before + round % 4
            });
            if round % 2 == 1 {
                store.with(|state| state.holding = true);
                log.append(30);
                agent.until("requests are under way", || store.with(|state| state.held > 0));
            }
            agent.kill();
            store.with(|state| state.holding = false);
            log.append(20);
        }
        let agent = Agent::start(&place);
        agent.until("all is there", || delivered(&agent) == log.written as u64);
        let status = agent.status();
        status.assert_law();
        assert_eq!(agent.stop(), 0);
        assert_exactly(token, &store.records(), log.written);
    }
}
