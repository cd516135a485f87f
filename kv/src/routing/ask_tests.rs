//! Which replica or node is asked.

use std::time::Duration;

use bytes::Bytes;

use super::{Address, Route};
use crate::db::{DbConfig, start_in_memory};
use crate::keys;

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_behind_a_split_is_not_asked_for_what_was_split_off() {
    let node = start_in_memory(DbConfig::default(), None).await.unwrap();
    let first = keys::user_span().start;
    let key = |name: &str| Bytes::from([&*first, name.as_bytes()].concat());
    let (before, cut, behind) = (key("a"), key("m"), key("x"));
    let is_held = |key: &Bytes| matches!(node.route(key), Ok(Route::Held(_)));
    assert!(is_held(&before) && is_held(&behind));

    let mut right = node.ranges.at(&cut).unwrap().state().descriptor();
    right.span.start = cut.clone();
    let address = |generation| Address {
        descriptor: crate::range::Descriptor {
            range: right.range + 100,
            generation,
            ..right.clone()
        },
        members: Vec::new(),
        position: None,
    };
    // What everybody knows changes nothing.
    node.learn_address(address(right.generation));
    assert!(is_held(&before) && is_held(&behind));
    node.learn_address(address(right.generation + 1));
    assert!(is_held(&before) && !is_held(&behind));

    // The replica here hears of the split, and the one that it makes is opened.
    let replica = node.ranges.at(&before).unwrap();
    replica.split(&cut, right.range + 100).await.unwrap();
    while !is_held(&behind) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_held(&before));
}
