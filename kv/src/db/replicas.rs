//! The replicas of a node: opening what the store holds, what is split off and what joins; closing
//! what is not a member of its range any more.
//!
//! Invariant: a replica number that was closed here for good is never opened here again: the mark of
//! it is durable before anything of the replica is removed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use pontoon_raft::{
    GroupId, Host, LogEngine, LogPosition, Membership, MembershipError, Peer, ReplicaId,
    StateMachine, StorageError,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::cluster::Opening as Wanted;
use crate::db::node::{Node, SYSTEM_RANGE, open_error};
use crate::error::Error;
use crate::keys::{Malformed, meta};
use crate::range::{
    Beginning, Descriptor, NONE_EVER, News, RangeMachine, RangeState, Refusal, Replica,
    remove_rows, snapshot_bounds,
};
use crate::shell::Runtime;
use crate::storage::{Engine, Room, Space, WriteBatch};
use crate::txn::Span;

/// What it takes to open a replica.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) host: Host,
    pub(super) engine: Arc<dyn Engine>,
    /// The replica of the ranges that a cluster begins with.
    pub(super) me: Peer,
    /// The members to found those ranges with.
    pub(super) found: Option<Vec<Peer>>,
    pub(super) patience: Duration,
    pub(super) runtime: Runtime,
    pub(super) room: Arc<Room>,
    pub(super) news: UnboundedSender<News>,
}

/// What the store knows of a replica.
pub(super) enum Stored {
    /// The bounds of its range.
    Placed(Descriptor),
    /// It has joined and waits for these bounds.
    Waits(Descriptor),
}

/// The replicas in the store, in the order of their ranges. What was being closed when the node
/// stopped is closed.
pub(super) fn stored(engine: &dyn Engine) -> Result<Vec<Stored>, Error> {
    let (from, to) = meta::ranges();
    let mut rows = engine.snapshot().scan(Space::Meta, from, to, false);
    let mut found: Vec<Stored> = Vec::new();
    while let Some((key, value)) = rows.next()? {
        match meta::of_range(&key) {
            Some((_, meta::DESCRIPTOR)) => found.push(Stored::Placed(Descriptor::decode(&value)?)),
            Some((range, meta::JOINED)) => {
                let placed =
                    |stored: &Stored| matches!(stored, Stored::Placed(d) if d.range == range);
                if !found.last().is_some_and(placed) {
                    found.push(Stored::Waits(joined(&value)?.1));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Reads what [`meta::joined`] names: the replica, and what it waits for.
fn joined(mut stored: &[u8]) -> Result<(ReplicaId, Descriptor), Error> {
    let replica = stored.try_get_u64().map_err(|_| Malformed)?;
    Ok((ReplicaId(replica), Descriptor::decode(stored)?))
}

/// The highest replica number that was closed for good.
fn closed(engine: &dyn Engine, range: u64) -> Result<Option<ReplicaId>, Error> {
    let stored = engine.get(Space::Meta, &meta::closed(range))?;
    let number = stored.map(|mut stored| stored.try_get_u64().map_err(|_| Malformed));
    Ok(number.transpose()?.map(ReplicaId))
}

/// The ranges that were absorbed and have left a log: the store knows nothing of them any more.
pub(super) fn logs_left(engine: &dyn Engine, log: &dyn LogEngine) -> Result<Vec<u64>, Error> {
    let mut left = Vec::new();
    for (group, _) in log.groups() {
        if closed(engine, group.0)? == Some(ReplicaId(NONE_EVER)) {
            left.push(group.0);
        }
    }
    Ok(left)
}

fn members_of(stored: &Bytes) -> Result<Vec<Peer>, Error> {
    let membership = Membership::decode(stored).map_err(|_| Error::Storage {
        message: "the members that a range was founded with are damaged in the store".into(),
    })?;
    let voters = membership.voters().into_iter();
    Ok(voters
        .filter_map(|replica| membership.peer(replica))
        .collect())
}

/// Opens a replica; `None` when there is none to open: it was closed for good, or the node has seen
/// a range begin of which it is no member (it learned the one that was split).
pub(super) async fn open(
    with: &Opening,
    beginning: Beginning,
) -> Result<Option<Arc<Replica>>, Error> {
    let (Beginning::Empty(descriptor) | Beginning::Awaits(descriptor)) = &beginning;
    let range = descriptor.range;
    let engine = &with.engine;
    let stored = engine.get(Space::Meta, &meta::joined(range))?;
    let joined = stored.map(|stored| joined(&stored)).transpose()?;
    let founders = engine.get(Space::Meta, &meta::founders(range))?;
    // Every replica of a range that was split off names the same members, so that it does not
    // matter who comes to it.
    let founders = founders.as_ref().map(members_of).transpose()?;
    let own = |members: &Vec<Peer>| members.iter().find(|m| m.place == with.me.place).copied();
    let replica = match (&joined, &founders) {
        (Some((replica, _)), _) => *replica,
        // Invariant: a replica has a number that its range has given it.
        (None, Some(members)) => match own(members) {
            Some(own) => own.replica,
            None => return Ok(None),
        },
        (None, None) => with.me.replica,
    };
    if closed(&**engine, range)?.is_some_and(|closed| replica <= closed) {
        return Ok(None);
    }
    let state = RangeState::open(Arc::clone(engine), beginning, with.news.clone())?;
    // The engine was synced before. Without this, a log that was purged would seem to have been
    // purged above what is durable.
    state.set_durable(state.applied().position);
    let shared = Arc::clone(&state);
    let machine = move || -> Result<Box<dyn StateMachine>, StorageError> {
        Ok(Box::new(RangeMachine::new(Arc::clone(&shared))?))
    };
    let group = if joined.is_some() {
        let state = Arc::clone(&state);
        let admits = move |first: &Bytes| {
            snapshot_bounds(first).is_some_and(|descriptor| state.admits(&descriptor))
        };
        let opened = with
            .host
            .open_joining(GroupId(range), replica, machine, admits);
        opened.await
    } else {
        with.host.open_group(GroupId(range), replica, machine).await
    };
    let group = group.map_err(|error| open_error(&error))?;
    if range == SYSTEM_RANGE {
        // Its leader coordinates, and everybody asks it twice a second.
        group.stay_awake();
    }
    let members = if joined.is_some() {
        None
    } else {
        founders.or_else(|| with.found.clone())
    };
    if let Some(members) = members {
        match group.initialize(members).await {
            Ok(()) | Err(MembershipError::Refused { .. }) => {}
            Err(error) => {
                return Err(Error::Unavailable {
                    message: error.to_string(),
                });
            }
        }
    }
    let (runtime, room) = (with.runtime.clone(), Arc::clone(&with.room));
    let replica = Replica::new(group, state, runtime, with.patience, room);
    Ok(Some(Arc::new(replica)))
}

impl Node {
    /// Opens a range that was split off from one of this node, unless it is open.
    pub(super) async fn open_child(&self, child: Descriptor) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        let range = child.range;
        if self.ranges.of(range).is_some() {
            return Ok(());
        }
        // Invariant: a replica takes part in its range only when what it begins with is durable.
        // Otherwise a power failure could leave it with a log and without the rows below it, and
        // the range that was split may not come back to the split but by a snapshot behind it.
        self.sync_engine().await?;
        match open(&self.opening, Beginning::Empty(child)).await? {
            Some(opened) => self.ranges.insert(opened),
            None => self.clear_store(range).await?,
        }
        Ok(())
    }

    /// The keys of a replica have come.
    pub(super) async fn place(&self, range: u64) {
        // Not while it is being opened: then it is not among the others yet.
        let _one = self.changing.lock().await;
        if let Some(replica) = self.ranges.of(range) {
            self.ranges.insert(replica);
        }
    }

    /// Opens an empty replica, which its leader will fill, and returns its number. When one is here
    /// already that has nothing yet, it is that one, under the number that it has: it was opened for
    /// somebody who may yet make it a member.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when another is here that has been a member, or its keys are those of
    /// another range here yet. `None` when it was closed here for good.
    pub(crate) async fn open_member(&self, wanted: &Wanted) -> Result<Option<ReplicaId>, Refusal> {
        let Wanted {
            descriptor,
            replica,
        } = wanted;
        let range = descriptor.range;
        let refuse = |message: String| Refusal::Error(Error::Unavailable { message });
        let _one = self.changing.lock().await;
        if let Some(held) = self.ranges.of(range) {
            let here = held.group().replica();
            if !held.state().is_placed() {
                self.claim_instead(&held, descriptor).await?;
                return Ok(Some(here));
            }
            if here == *replica {
                return Ok(Some(here));
            }
            return Err(refuse(format!("{here} of range {range} is here yet")));
        }
        if closed(&*self.engine, range)?.is_some_and(|closed| *replica <= closed) {
            return Ok(None);
        }
        if let Some(other) = self.ranges.overlapping(range, &descriptor.span) {
            let message = format!("keys of range {range} are held for range {other} yet");
            return Err(refuse(message));
        }
        // Nothing of what may be left of an earlier one is its.
        self.clear_store(range).await?;
        self.remember_joined(*replica, descriptor)?;
        // Before it votes or acknowledges anything under this number.
        self.sync_engine().await?;
        let beginning = Beginning::Awaits(descriptor.clone());
        if let Some(opened) = open(&self.opening, beginning).await? {
            tracing::info!(range, %replica, "holds a new replica");
            self.found_system(&opened);
            self.ranges.insert(opened);
        }
        Ok(Some(*replica))
    }

    /// Remembers that a replica has joined, and what it waits for.
    fn remember_joined(&self, replica: ReplicaId, descriptor: &Descriptor) -> Result<(), Error> {
        let mut stored = Vec::with_capacity(64);
        stored.put_u64(replica.0);
        stored.extend_from_slice(&descriptor.encode());
        let mut batch = WriteBatch::default();
        let key = meta::joined(descriptor.range);
        batch.put(Space::Meta, key, Bytes::from(stored));
        self.engine.write(batch)
    }

    /// Has a replica that has nothing yet wait for later bounds, which may be wider: its range may
    /// have absorbed another.
    async fn claim_instead(&self, held: &Replica, descriptor: &Descriptor) -> Result<(), Refusal> {
        let known = held.state().awaited();
        if known.is_none_or(|known| known.generation >= descriptor.generation) {
            return Ok(());
        }
        if let Some(other) = self.ranges.overlapping(descriptor.range, &descriptor.span) {
            let range = descriptor.range;
            let message = format!("keys of range {range} are held for range {other} yet");
            return Err(Refusal::Error(Error::Unavailable { message }));
        }
        self.remember_joined(held.group().replica(), descriptor)?;
        self.sync_engine().await?;
        held.state().await_instead(descriptor.clone());
        Ok(())
    }

    /// A range has become a part of another: what is left of it here is its log.
    pub(super) async fn close_absorbed(&self, range: u64) -> Result<(), Error> {
        #[cfg(test)]
        {
            let late = self.closes_late_ms.load(Ordering::Relaxed);
            self.runtime.sleep(Duration::from_millis(late)).await;
        }
        let _one = self.changing.lock().await;
        self.ranges.remove(range);
        // Invariant: the log of a range is removed only when the store has it absorbed durably.
        // Before, the entry that does so may come again, and wants the range as it was.
        self.sync_engine().await?;
        self.destroy_log(range).await?;
        // What the replica noted of itself meanwhile. Its rows have another owner.
        self.clear_store(range).await
    }

    /// A range has become a part of another, which is not here (any more).
    pub(super) async fn close_absorbed_elsewhere(&self, range: u64) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        self.close(range, ReplicaId(NONE_EVER)).await
    }

    async fn destroy_log(&self, range: u64) -> Result<(), Error> {
        let destroyed = self.host.destroy_group(GroupId(range)).await;
        destroyed.map_err(|error| Error::Storage {
            message: error.to_string(),
        })
    }

    /// Whether a range has become a part of another here.
    pub(crate) fn is_absorbed(&self, range: u64) -> Result<bool, Error> {
        let closed = closed(&*self.engine, range)?;
        Ok(closed == Some(ReplicaId(NONE_EVER)))
    }

    /// Closes a replica that the entry at `left` has left out of its range, for good. Nothing is
    /// done when a later one is here, or it knows that it was made a member after that.
    pub(crate) async fn close_member(
        &self,
        range: u64,
        replica: ReplicaId,
        left: Option<LogPosition>,
    ) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        if self.is_absorbed(range)? {
            return Ok(());
        }
        if let Some(held) = self.ranges.of(range)
            && held.group().replica() == replica
            && held.state().is_placed()
        {
            let known = held.group().status().membership;
            if known.members.contains_key(&replica) && known.position >= left {
                return Ok(());
            }
        }
        self.close(range, replica).await
    }

    async fn close(&self, range: u64, replica: ReplicaId) -> Result<(), Error> {
        if self
            .ranges
            .of(range)
            .is_some_and(|held| held.group().replica() > replica)
        {
            return Ok(());
        }
        if closed(&*self.engine, range)?.is_none_or(|closed| closed < replica) {
            let mut batch = WriteBatch::default();
            let number = Bytes::copy_from_slice(&replica.0.to_be_bytes());
            batch.put(Space::Meta, meta::closed(range), number);
            self.engine.write(batch)?;
            self.sync_engine().await?;
        }
        if let Some(held) = self.ranges.of(range) {
            // Whoever reads there yet must not take what is left for what there was.
            held.state().replaced.fetch_add(1, Ordering::SeqCst);
        }
        self.ranges.remove(range);
        self.destroy_log(range).await?;
        self.clear_store(range).await?;
        tracing::info!(range, %replica, "holds a replica no more");
        Ok(())
    }

    /// Removes what a replica that was closed has left in the engine, its keys first.
    async fn clear_store(&self, range: u64) -> Result<(), Error> {
        let stored = self.engine.get(Space::Meta, &meta::descriptor(range))?;
        if let Some(stored) = stored {
            let span = Descriptor::decode(&stored)?.span;
            let engine = Arc::clone(&self.engine);
            let remove = move || {
                let gone = unclaimed(&*engine, range, span)?;
                gone.iter().try_for_each(|span| remove_rows(&*engine, span))
            };
            let removed = self.runtime.blocking(remove).await;
            removed.unwrap_or(Ok(()))?;
        }
        let mut batch = WriteBatch::default();
        for key in meta::of_replica(range) {
            batch.remove(Space::Meta, key);
        }
        self.engine.write(batch)
    }

    /// Closes what was being closed when the node stopped: the ranges that were not opened.
    ///
    /// Invariant: they were in the store before any other was opened. What a range that replays its
    /// log has split off since is not among them, though it is not open yet.
    pub(super) async fn clear_closed(&self, left: &[u64]) -> Result<(), Error> {
        for range in left {
            self.destroy_log(*range).await?;
            self.clear_store(*range).await?;
        }
        Ok(())
    }

    /// Makes what was written to the engine survive a power failure.
    pub(crate) async fn sync_engine(&self) -> Result<(), Error> {
        let engine = Arc::clone(&self.engine);
        let synced = self.runtime.blocking(move || engine.persist()).await;
        synced.unwrap_or(Ok(()))
    }
}

/// The parts of a span that no other range than `range` has or waits for in the store.
fn unclaimed(engine: &dyn Engine, range: u64, span: Span) -> Result<Vec<Span>, Error> {
    let stored = stored(engine)?.into_iter().map(|stored| match stored {
        Stored::Placed(descriptor) | Stored::Waits(descriptor) => descriptor,
    });
    let others = stored.filter(|descriptor| descriptor.range != range);
    Ok(others.fold(vec![span], |left, other| {
        let parts = left.iter().flat_map(|span| span.without(&other.span));
        parts.collect()
    }))
}
