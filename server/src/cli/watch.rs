//! `pontoon watch`: prints what is known of the cluster's metadata and every change of it, until it
//! is ended.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use pontoon_kv::cluster::WatchedKind;
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::args::WatchCommand;
use super::contact::{block_on, keyring};
use crate::certs::Credentials;
use crate::node::Failure;
use crate::rpc::watch::{Event, Request, Response, watch};

/// A node that is lost is tried again for so long.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause before it is.
const AGAIN: Duration = Duration::from_millis(500);

/// Runs the command.
pub(super) fn run(command: &WatchCommand) -> Result<(), Failure> {
    block_on(follow(command))
}

/// How a stream has ended.
enum End {
    /// Nobody reads what is printed.
    Unread,
    /// It broke.
    Broken(Status),
}

async fn follow(command: &WatchCommand) -> Result<(), Failure> {
    let keyring = keyring(&command.contact)?;
    let credentials = keyring.map_or(Credentials::Insecure, Credentials::Member);
    let mut since = command.since;
    let mut told_at = Instant::now();
    loop {
        let before = since;
        let status = match follow_once(command, &credentials, &mut since).await {
            End::Unread => return Ok(()),
            End::Broken(status) => status,
        };
        if since != before {
            told_at = Instant::now();
        }
        if status.code() != Code::Unavailable || told_at.elapsed() > PATIENCE {
            let host = &command.contact.host;
            let reason = status.message();
            return Err(Failure::Usage(format!(
                "cannot watch at {host}: {reason}\n\
                 Go on where it ended, at this node or another: --host HOST:PORT --since {since}"
            )));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn follow_once(command: &WatchCommand, credentials: &Credentials, since: &mut u64) -> End {
    let request = Request {
        topics: command.topics.clone(),
        since: *since,
    };
    let mut pages = match watch(&command.contact.host, credentials, request).await {
        Ok(pages) => pages,
        Err(status) => return End::Broken(status),
    };
    loop {
        let page = match pages.message().await {
            Ok(Some(page)) => page,
            Ok(None) => return End::Broken(Status::unavailable("the stream was closed")),
            Err(status) => return End::Broken(status),
        };
        *since = page.revision;
        let text = if command.json {
            as_json(&page)
        } else {
            in_words(&page)
        };
        let mut out = io::stdout().lock();
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            return End::Unread;
        }
    }
}

/// A line for each event, and one that says from where to go on.
fn as_json(page: &Response) -> String {
    let row = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let event = |event: &Event| {
        json!({
            "revision": event.revision,
            "kind": if event.deleted { "delete" } else { "put" },
            "what": event.topic,
            "id": event.id,
            "value": row(&event.value),
            "old": row(&event.old),
        })
    };
    let compacted = json!({ "revision": page.revision, "kind": page.kind.name() });
    let compacted = (page.kind == WatchedKind::Compacted).then_some(compacted);
    let last = json!({ "revision": page.revision, "kind": "revision" });
    let lines = compacted
        .into_iter()
        .chain(page.events.iter().map(event))
        .chain([last]);
    lines.map(|line| format!("{line}\n")).collect()
}

/// A line for each event, which begins with its revision.
fn in_words(page: &Response) -> String {
    let compacted = (page.kind == WatchedKind::Compacted).then(|| {
        let revision = page.revision;
        format!("{revision} what changed since is not known any more, this is what there is:\n")
    });
    let line = |event: &Event| format!("{} {}\n", event.revision, words(event));
    let lines = page.events.iter().map(line);
    compacted.into_iter().chain(lines).collect()
}

fn words(event: &Event) -> String {
    let row = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let (value, old) = (row(&event.value), row(&event.old));
    // "nodes" are many.
    let what = event.topic.strip_suffix('s').unwrap_or(&event.topic);
    let what = format!("{what} {}", event.id);
    match (&value, &old) {
        (Value::Null, _) => format!("{what} is gone"),
        (value, Value::Null) => format!("{what}: {}", fields(value)),
        (Value::Object(value), Value::Object(old)) => {
            let changed = value
                .iter()
                .filter(|(name, now)| old.get(*name) != Some(now));
            let changed = changed.map(|(name, now)| {
                let before = old.get(name).unwrap_or(&Value::Null);
                format!("{name} {} -> {}", plain(before), plain(now))
            });
            let changed: Vec<_> = changed.collect();
            match changed.is_empty() {
                true => format!("{what} was written again"),
                false => format!("{what} changed: {}", changed.join(", ")),
            }
        }
        (value, old) => format!("{what} changed: {} -> {}", plain(old), plain(value)),
    }
}

fn fields(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return plain(value);
    };
    let fields = fields.iter().filter(|(_, value)| **value != json!(""));
    let fields = fields.map(|(name, value)| format!("{name} {}", plain(value)));
    fields.collect::<Vec<_>>().join(", ")
}

/// A value without quotes: members by their nodes, lists by their parts.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts = parts.iter().map(plain);
            format!("[{}]", parts.collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => match fields.get("node_id") {
            Some(node) => format!("n{node}"),
            None => value.to_string(),
        },
        Value::Null => "nothing".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(kind: WatchedKind, value: &str, old: &str) -> Response {
        Response {
            revision: 9,
            kind,
            events: vec![Event {
                revision: 7,
                deleted: value.is_empty(),
                topic: "nodes".to_owned(),
                id: "2".to_owned(),
                value: value.to_owned(),
                old: old.to_owned(),
            }],
        }
    }

    #[test]
    fn events_are_told_in_words() {
        let (active, leaving) = (
            "{\"state\":\"active\",\"roles\":[\"data\",\"query\"],\"sql\":\"\"}",
            "{\"state\":\"leaving\",\"roles\":[\"data\",\"query\"],\"sql\":\"\"}",
        );
        let told = |value, old| in_words(&page(WatchedKind::Changes, value, old));
        assert_eq!(
            told(active, ""),
            "7 node 2: state active, roles [data query]\n"
        );
        assert_eq!(
            told(leaving, active),
            "7 node 2 changed: state active -> leaving\n"
        );
        assert_eq!(told(active, active), "7 node 2 was written again\n");
        assert_eq!(told("", active), "7 node 2 is gone\n");
        assert_eq!(told("\"on\"", "\"off\""), "7 node 2 changed: off -> on\n");
        let members = "{\"replicas\":[{\"replica_id\":4,\"node_id\":1}]}";
        assert_eq!(told(members, ""), "7 node 2: replicas [n1]\n");
        let compacted = in_words(&page(WatchedKind::Compacted, active, ""));
        assert!(compacted.starts_with("9 what changed since is not known any more"));
    }

    #[test]
    fn json_says_from_where_to_go_on() {
        assert_eq!(
            as_json(&page(WatchedKind::Compacted, "{\"a\":1}", "")),
            "{\"revision\":9,\"kind\":\"compacted\"}\n\
             {\"revision\":7,\"kind\":\"put\",\"what\":\"nodes\",\"id\":\"2\",\"value\":{\"a\":1},\
             \"old\":null}\n\
             {\"revision\":9,\"kind\":\"revision\"}\n"
        );
    }
}
