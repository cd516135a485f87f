//! `pontoon_internal.watch` and `pontoon_internal.revision`: the metadata of the cluster and what
//! changes of it, as rows.
//!
//! The last row of a watch has no id: it says from which revision to go on. Nothing here is a
//! matter of the transaction that asks; it is told what is so now.

use std::time::Duration;

use pontoon_kv::cluster::{Metadata, Topic, WatchEvent, Watched, WatchedKind};
use pontoon_kv::{Db, Error, Timestamp};

use crate::error::{SqlError, SqlState};
use crate::types::Datum;
use crate::types::json::parse_value;
use crate::types::registry::ClusterCall;

use super::Values;
use super::computed::nobody;
use super::executor::Executor;

/// The longest wait, in milliseconds: a statement that waits holds back the removal of old rows.
const WAIT_MS_MAX: i32 = 600_000;
/// What asks for all topics.
const ALL: &str = "all";

impl Executor {
    /// Asks the cluster, and waits for its answer if it is to.
    pub(super) async fn ask_cluster(
        &self,
        call: ClusterCall,
        args: &[Datum],
    ) -> Result<Vec<Values>, SqlError> {
        let store = self.cx.runtime.store().ok_or_else(nobody)?;
        match call {
            ClusterCall::Watch => watch(store, args).await,
            ClusterCall::Revision => {
                let now = store.now().await?;
                Ok(vec![vec![revision(now)]])
            }
        }
    }
}

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

async fn watch(store: &Db, args: &[Datum]) -> Result<Vec<Values>, SqlError> {
    let (what, since, wait_ms) = match args {
        [Datum::Text(what), Datum::Int8(since)] => (what, since, &0),
        [Datum::Text(what), Datum::Int8(since), Datum::Int4(wait_ms)] => (what, since, wait_ms),
        _ => return Err(SqlError::internal("arguments of another function")),
    };
    let topics = match Topic::from_name(what) {
        Some(topic) => vec![topic],
        None if &**what == ALL => Topic::ALL.to_vec(),
        None => {
            let names = Topic::ALL.map(Topic::name).join(", ");
            let hint = format!("There are {names}, and {ALL}.");
            return Err(invalid(format!("\"{what}\" cannot be watched")).with_hint(hint));
        }
    };
    let since = u64::try_from(*since).map_err(|_| invalid("a revision is not negative".into()))?;
    let wait_ms = u64::try_from(*wait_ms)
        .ok()
        .filter(|_| *wait_ms <= WAIT_MS_MAX);
    let wait_ms = wait_ms.ok_or_else(|| {
        invalid(format!(
            "a watch waits from 0 to {WAIT_MS_MAX} milliseconds"
        ))
    })?;
    let wait = Duration::from_millis(wait_ms);
    // On the heap, as the future of every statement holds room for this one.
    match Box::pin(store.watch(&topics, Timestamp(since), wait)).await {
        Ok(watched) => rows(&watched, what),
        Err(error @ Error::Unavailable { .. }) => Err(nobody().with_detail(format!("{error}."))),
        Err(error) => Err(error.into()),
    }
}

fn rows(watched: &Watched, what: &str) -> Result<Vec<Values>, SqlError> {
    let mark = |kind: &str| {
        let mut row = vec![
            revision(watched.revision),
            Datum::text(kind),
            Datum::text(what),
        ];
        row.resize(6, Datum::Null);
        row
    };
    let mut rows = Vec::with_capacity(watched.events.len() + 2);
    if watched.kind == WatchedKind::Compacted {
        rows.push(mark(watched.kind.name()));
    }
    for event in &watched.events {
        rows.push(row(event)?);
    }
    rows.push(mark("revision"));
    Ok(rows)
}

fn row(event: &WatchEvent) -> Result<Values, SqlError> {
    let json = |row: Option<Metadata>| match row {
        Some(row) => {
            let text = parse_value(&row.to_json().to_string())?.to_text();
            Ok::<_, SqlError>(Datum::Json(text.into()))
        }
        None => Ok(Datum::Null),
    };
    Ok(vec![
        revision(event.revision),
        Datum::text(event.verb()),
        Datum::text(event.topic.name()),
        Datum::text(event.id()),
        json(event.row()?)?,
        json(event.old_row()?)?,
    ])
}

fn revision(at: Timestamp) -> Datum {
    // The sign is free until the year 3084.
    Datum::Int8(i64::try_from(at.0).unwrap_or(i64::MAX))
}
