//! [`Load`]: how much a range is used, and whether it could be parted in two that are used alike.
//!
//! Every so many requests one leaves its key. The middle of the keys that were left is a candidate for
//! a split; it is taken only if the requests that come after lie on both sides of it. So a range to
//! which keys are appended is not split again and again behind its end, and one whose load is a single
//! key is not split at all. Whoever asks for a key counts, and whoever writes.
//!
//! Pure: the seconds are given, and which requests leave their keys depends on their number alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

/// One request in so many leaves its key.
const SAMPLED_EVERY: u64 = 64;
/// Keys of which the middle is a candidate.
const KEYS: usize = 64;
/// Requests by which a candidate is judged.
const JUDGED_BY: u32 = 128;
/// Each side of a split must have one in so many of them.
const SHARE: u32 = 4;

/// The use of a range by those who ask its leader here.
#[derive(Debug, Default)]
pub(crate) struct Load {
    requests: AtomicU64,
    /// Requests when it was looked last, and the rate since then, smoothed.
    looked: Mutex<(u64, f64)>,
    samples: Mutex<Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    keys: Vec<Bytes>,
    candidate: Option<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    key: Bytes,
    below: u32,
    above: u32,
}

impl Load {
    /// Notes a request for a key, or a span that begins with it.
    pub(crate) fn note(&self, key: &[u8]) {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(SAMPLED_EVERY)
            && let Some(mut samples) = self.samples.try_lock()
        {
            samples.take(key);
        }
    }

    /// Notes that time has passed since this was called last, and returns requests a second.
    pub(crate) fn look(&self, passed: Duration) -> u64 {
        let requests = self.requests.load(Ordering::Relaxed);
        let mut looked = self.looked.lock();
        let (before, rate) = *looked;
        let new = requests.saturating_sub(before) as f64 / passed.as_secs_f64().max(0.001);
        *looked = (requests, (rate + new) / 2.0);
        drop(looked);
        self.per_second()
    }

    /// Requests a second, as of the last look.
    pub(crate) fn per_second(&self) -> u64 {
        // Far below what the type holds, and never negative.
        self.looked.lock().1 as u64
    }

    /// A key at which the range could be split so that both parts are used; when it is known. After
    /// it was asked for, it is looked for anew.
    pub(crate) fn middle(&self) -> Option<Bytes> {
        self.samples.lock().middle()
    }
}

impl Samples {
    fn take(&mut self, key: &[u8]) {
        match &mut self.candidate {
            Some(candidate) if *key < *candidate.key => candidate.below += 1,
            Some(candidate) => candidate.above += 1,
            None => {
                self.keys.push(Bytes::copy_from_slice(key));
                if self.keys.len() >= KEYS {
                    self.keys.sort();
                    let key = self.keys.swap_remove(KEYS / 2);
                    self.keys.clear();
                    self.candidate = Some(Candidate {
                        key,
                        below: 0,
                        above: 0,
                    });
                }
            }
        }
    }

    fn middle(&mut self) -> Option<Bytes> {
        let judged = |c: &&Candidate| c.below + c.above >= JUDGED_BY;
        let Candidate { key, below, above } = self.candidate.as_ref().filter(judged)?;
        let even = (*below).min(*above) >= (below + above) / SHARE;
        let found = even.then(|| key.clone());
        self.candidate = None;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> [u8; 8] {
        n.to_be_bytes()
    }

    /// Requests until a candidate is judged.
    const ENOUGH: u64 = SAMPLED_EVERY * (KEYS as u64 + JUDGED_BY as u64 - 1) + 1;

    #[test]
    fn keys_all_over_are_parted_in_their_middle() {
        let load = Load::default();
        for n in 0..ENOUGH {
            assert_eq!(load.middle(), None);
            load.note(&key(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32));
        }
        let middle = load.middle().unwrap();
        let whole = 1_u64 << 32;
        let (least, most) = (key(whole / 4), key(whole / 4 * 3));
        assert!(*middle > least[..] && *middle < most[..]);
        assert_eq!(load.middle(), None, "it is looked for anew");
    }

    #[test]
    fn keys_that_only_grow_and_a_single_key_are_not_parted() {
        for grows in [0, 1] {
            let load = Load::default();
            for n in 0..5 * ENOUGH {
                load.note(&key(n * grows));
                assert_eq!(load.middle(), None, "at {n}");
            }
        }
    }

    #[test]
    fn the_rate_follows_the_requests() {
        let load = Load::default();
        let second = Duration::from_secs(1);
        for _ in 0..20 {
            (0..1_000).for_each(|n| load.note(&key(n)));
            load.look(second);
        }
        assert!((990..=1_000).contains(&load.per_second()));
        assert_eq!(load.look(second), load.per_second());
        (0..20).for_each(|_| _ = load.look(second));
        assert_eq!(load.per_second(), 0);
    }
}
