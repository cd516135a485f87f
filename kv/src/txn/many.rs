//! Reads of several keys: what can be answered at once is, and the ranges of the others are asked for
//! many in one request, several at a time.

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::Error;
use crate::range::Refusal;
use crate::routing::{Route, mismatch};
use crate::timestamp::Timestamp;
use crate::txn::api::{Key, Value};
use crate::txn::transaction::Txn;

/// Keys of one request.
const KEYS_MAX: usize = 512;
/// Requests that are under way at one time.
const REQUESTS_MAX: usize = 8;

impl Txn {
    /// Reads several keys; the values come in the order asked.
    pub async fn multi_get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Error> {
        let (read, mut values) = self.known(keys)?;
        let mut left = Vec::new();
        for (number, (key, value)) in keys.iter().zip(&mut values).enumerate() {
            if value.is_none() {
                match self.stored_at_once(key, read) {
                    Some(stored) => *value = Some(stored?),
                    None => left.push(number),
                }
            }
        }
        if !left.is_empty() {
            let ask = |route: Route, keys: Vec<Key>| {
                async move {
                    let node = self.node();
                    let values = node.get_many(&route, keys.clone(), read).await?;
                    self.note_values(&keys, &values);
                    Ok(values)
                }
                .boxed()
            };
            for (number, value) in self.ask_many(keys, left, ask).await? {
                if let Some(slot) = values.get_mut(number) {
                    *slot = Some(value);
                }
            }
        }
        self.note_gets(keys, read);
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    /// When keys were last written, once every commit that is under way on them is applied.
    pub(super) async fn last_written(&self, keys: &[Key]) -> Result<Vec<Option<Timestamp>>, Error> {
        let (mut found, mut left) = (Vec::with_capacity(keys.len()), Vec::new());
        for (number, key) in keys.iter().enumerate() {
            let replica = self.node().ranges.at(key);
            let written = replica.and_then(|replica| replica.try_last_written(key));
            if written.is_none() {
                left.push(number);
            }
            found.push(written.transpose()?.flatten());
        }
        if left.is_empty() {
            return Ok(found);
        }
        let ask = |route: Route, keys: Vec<Key>| {
            async move {
                let node = self.node();
                node.last_written(&route, keys, Timestamp::MAX).await
            }
            .boxed()
        };
        for (number, written) in self.ask_many(keys, left, ask).await? {
            if let Some(slot) = found.get_mut(number) {
                *slot = written;
            }
        }
        Ok(found)
    }

    /// Asks the ranges that hold some of `keys`, whose numbers are `left`, until all are answered.
    async fn ask_many<'a, T: Send>(
        &'a self,
        keys: &'a [Key],
        mut left: Vec<usize>,
        ask: impl Fn(Route, Vec<Key>) -> BoxFuture<'a, Result<Vec<T>, Refusal>>
        + Copy
        + Send
        + Sync
        + 'a,
    ) -> Result<Vec<(usize, T)>, Error> {
        left.sort_by_key(|number| keys.get(*number));
        let mut batches: Vec<(Option<Route>, Vec<usize>)> = Vec::new();
        for number in left {
            let Some(key) = keys.get(number) else {
                continue;
            };
            let fits = |(route, batch): &(Option<Route>, Vec<usize>)| {
                let held = route
                    .as_ref()
                    .is_some_and(|route| route.span().contains(key));
                held && batch.len() < KEYS_MAX
            };
            match batches.last_mut().filter(|last| fits(last)) {
                Some((_, batch)) => batch.push(number),
                None => batches.push((self.node().route(key).ok(), vec![number])),
            }
        }
        let asked = batches
            .into_iter()
            .map(|(_, batch)| self.ask_batch(keys, batch, ask).boxed());
        let answers: Vec<Vec<(usize, T)>> = stream::iter(asked)
            .buffer_unordered(REQUESTS_MAX)
            .try_collect()
            .await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Asks for keys in their order, again and again: a range answers for as many of the first as it
    /// can, and may be another one the next time.
    async fn ask_batch<'a, T: Send>(
        &'a self,
        keys: &'a [Key],
        batch: Vec<usize>,
        ask: impl Fn(Route, Vec<Key>) -> BoxFuture<'a, Result<Vec<T>, Refusal>>
        + Copy
        + Send
        + Sync
        + 'a,
    ) -> Result<Vec<(usize, T)>, Error> {
        let mut answered = Vec::with_capacity(batch.len());
        while let Some(left) = batch.get(answered.len()..).filter(|left| !left.is_empty()) {
            let wanted: Vec<&Key> = left.iter().filter_map(|number| keys.get(*number)).collect();
            let asked = || async {
                let Some(first) = wanted.first() else {
                    return Ok(Vec::new());
                };
                let route = self.node().route(first)?;
                let span = route.span();
                let here = wanted.iter().take_while(|key| span.contains(key));
                let here: Vec<Key> = here.map(|key| (*key).clone()).collect();
                ask(route, here).await
            };
            let answers = self.settling(asked).await?;
            if answers.is_empty() || answers.len() > left.len() {
                return Err(crate::routing::plain(mismatch()));
            }
            answered.extend(left.iter().copied().zip(answers));
        }
        Ok(answered)
    }
}
