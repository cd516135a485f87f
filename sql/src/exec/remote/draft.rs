//! [`Draft`]: how much of a plan nodes can do side by side, each with its own rows.
//!
//! ```text
//! Aggregate                      each part:  first half of
//!   Join                                       join of own rows of big
//!     Scan of big                              and all rows of small (an inlet)
//!     Scan of small
//!
//! Join                           each part:  join of
//!   Scan of big                                rows of big that were shuffled to it
//!   Scan of large                              and rows of large that were (both inlets)
//! ```
//!
//! A draft follows a plan down to one scan. Of a join on the way every part needs the other side as
//! a whole: that is run first, and sent along, if it is small. If it is not, the rows of both sides
//! are shuffled by the keys of the join, so that rows with equal keys meet; each side is then a
//! draft of its own. They are shuffled once in a draft.
//!
//! The first halves of an aggregate are shuffled by their groups, if there are many: each node does
//! the second half of some. Whether there are is seen when the first halves are done.
//!
//! Whether a side is small is guessed from the plan, and seen when it is run ([`Known`]).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::bind::tree::Expr;
use crate::exec::vector::expr::Form;
use crate::exec::vector::lower::form_of;
use crate::plan::node::{Access, JoinKey, JoinType, Op, Plan, TableScan};
use crate::types::Datum;

use super::portable::make_portable;
use super::work::{Groups, Half, Joined, Keys, Rows, Shuffle, Source, Step, Top, Work};

/// Bytes that a value is guessed to have at least.
const VALUE_BYTES: f64 = 8.0;

/// More first rows than this are not worth being found in parts.
const TOP_MAX: u64 = 100_000;

/// How much of a plan nodes can do side by side.
pub(super) struct Draft<'p> {
    /// What is done.
    pub(super) work: Work,
    /// With which rows.
    pub(super) base: Base<'p>,
    /// Plans whose rows every part is given, in the order of their inlets, which are the last.
    pub(super) needs: Vec<&'p Plan>,
}

/// Which rows nodes have.
pub(super) enum Base<'p> {
    /// Those of a scan that they lead.
    Scan(&'p TableScan),
    /// Those of other drafts, which are shuffled: the first inlets.
    Shuffled(Vec<Draft<'p>>),
}

/// What is wanted of a plan.
#[derive(Clone)]
pub enum Wanted {
    /// Its rows, in the order of the keys of its table: it is a scan.
    Scan,
    /// Its rows: it has a join.
    Joined,
    /// The first half of it: it is an aggregate.
    Groups,
    /// Its first rows.
    First(Top),
}

/// What is known of the sides of joins that every part might be given.
pub(super) struct Known {
    /// What the transaction reads is validated.
    validates: bool,
    /// Bytes that are given to every part at most.
    max: usize,
    /// Those that were run, by address.
    sides: HashMap<usize, Side>,
}

/// A side of a join.
enum Side {
    /// It was run: its rows as a stream of Arrow.
    Small(Bytes),
    /// It has more than are sent to every part.
    Large,
}

impl Known {
    /// Nothing yet. Whether the transaction validates what it reads; of a side, so many bytes are given
    /// to every part at most.
    pub(super) fn new(validates: bool, max: usize) -> Self {
        Self {
            validates,
            max,
            sides: HashMap::new(),
        }
    }

    pub(super) fn is_large(&mut self, plan: &Plan) {
        self.sides.insert(address(plan), Side::Large);
    }

    pub(super) fn are(&mut self, plan: &Plan, rows: Bytes) {
        self.sides.insert(address(plan), Side::Small(rows));
    }

    /// The rows of a side that was run.
    pub(super) fn rows(&self, plan: &Plan) -> Option<&Bytes> {
        match self.sides.get(&address(plan)) {
            Some(Side::Small(rows)) => Some(rows),
            _ => None,
        }
    }

    fn may_be_small(&self, plan: &Plan) -> bool {
        match self.sides.get(&address(plan)) {
            Some(Side::Small(_)) => true,
            Some(Side::Large) => false,
            None => !self.is_guessed_large(plan),
        }
    }

    fn is_guessed_large(&self, plan: &Plan) -> bool {
        plan.rows * plan.columns.len().max(1) as f64 * VALUE_BYTES > self.max as f64
    }
}

fn address(plan: &Plan) -> usize {
    std::ptr::from_ref(plan) as usize
}

impl<'p> Draft<'p> {
    /// The draft of a plan, if it can be done so.
    pub(super) fn of(
        plan: &'p Plan,
        wanted: Wanted,
        params: &[Datum],
        known: &Known,
    ) -> Option<Self> {
        let is_it = match &wanted {
            Wanted::Scan => matches!(plan.op, Op::Scan(_)),
            Wanted::Joined => matches!(plan.op, Op::Join { .. }),
            Wanted::Groups => matches!(plan.op, Op::Aggregate { .. }),
            Wanted::First(_) => gives_rows(plan),
        };
        let draft = is_it.then(|| Self::drawn(plan, params, known)).flatten()?;
        match wanted {
            Wanted::First(top) => draft.first(top, params),
            Wanted::Groups if known.is_guessed_large(plan) => Some(draft.merged(known)),
            _ => Some(draft),
        }
    }

    fn drawn(plan: &'p Plan, params: &[Datum], known: &Known) -> Option<Self> {
        match &plan.op {
            Op::Scan(scan) => {
                let mut filter = scan.filter.clone();
                let rows = make_portable(&mut filter, params).then(|| Rows {
                    table: Arc::clone(&scan.table),
                    columns: plan.columns.clone(),
                    positions: scan.positions.clone(),
                    filter,
                    index: match &scan.access {
                        Access::Key(access) => {
                            access.index.as_ref().map(|index| index.name.clone())
                        }
                        Access::Full | Access::Part(_) => None,
                    },
                    of_all: matches!(scan.access, Access::Full),
                })?;
                Some(Self {
                    work: Work::with(Source::Table(rows)),
                    base: Base::Scan(scan),
                    needs: Vec::new(),
                })
            }
            Op::Filter { input, conditions } => {
                let mut conditions = conditions.clone();
                let portable = make_portable(&mut conditions, params);
                let draft = portable.then(|| Self::drawn(input, params, known));
                draft.flatten()?.and_then(Step::Filter(conditions))
            }
            Op::Project { input, exprs } => {
                let mut exprs = exprs.clone();
                let portable = make_portable(&mut exprs, params);
                let draft = portable.then(|| Self::drawn(input, params, known));
                let step = Step::Project(exprs, plan.columns.clone());
                draft.flatten()?.and_then(step)
            }
            Op::Join { lateral: false, .. } => Self::join(plan, params, known),
            Op::Aggregate {
                input, keys, calls, ..
            } => {
                let (mut keys, mut calls) = (keys.clone(), calls.clone());
                // What is distinct in each part may not be in all of them.
                let mut portable = !calls.iter().any(|call| call.distinct);
                portable = portable && make_portable(&mut keys, params);
                for call in &mut calls {
                    let parts = call.args.iter_mut().chain(&mut call.filter);
                    portable = portable && make_portable(parts, params);
                }
                let draft = portable.then(|| Self::drawn(input, params, known));
                let mut draft = draft.flatten().filter(|draft| draft.gives_rows())?;
                draft.work.groups = Some(Groups {
                    half: Half::First,
                    keys,
                    calls,
                    columns: plan.columns.clone(),
                });
                Some(draft)
            }
            _ => None,
        }
    }

    /// All plans that are run before: what its parts are given, and those of its sides.
    pub(super) fn all_needs(&self) -> Vec<&'p Plan> {
        let mut needs = self.needs.clone();
        if let Base::Shuffled(sides) = &self.base {
            needs.extend(sides.iter().flat_map(|side| side.all_needs()));
        }
        needs
    }

    fn and_then(mut self, step: Step) -> Option<Self> {
        self.work.steps.push(step);
        self.gives_rows().then_some(self)
    }

    fn gives_rows(&self) -> bool {
        self.work.half().is_none()
    }

    /// The same for an aggregate that may have many groups: they are shuffled too, unless there are
    /// only so few bytes of them.
    fn merged(mut self, known: &Known) -> Self {
        let keys = self
            .work
            .groups
            .as_ref()
            .map_or(0, |groups| groups.keys.len());
        if keys == 0 || !self.may_be_shuffled(known) {
            return self;
        }
        let mut work = self.work.clone();
        if let Some(groups) = &mut work.groups {
            groups.half = Half::Second;
        }
        self.work.shuffle = Some(Shuffle {
            keys: Keys::First(keys),
            partitions: 0,
            few: known.max,
        });
        Self {
            work,
            base: Base::Shuffled(vec![self]),
            needs: Vec::new(),
        }
    }

    /// The same, as far as it gives the first rows.
    fn first(mut self, mut top: Top, params: &[Datum]) -> Option<Self> {
        let keys = top.keys.iter_mut().map(|key| &mut key.expr);
        let can = make_portable(keys, params) && self.gives_rows() && top.most <= TOP_MAX;
        if let Source::Table(rows) = &mut self.work.source {
            // A part ends when it has enough, if it need not see all rows for that.
            rows.of_all &= !top.keys.is_empty();
        }
        self.work.top = Some(top);
        can.then_some(self)
    }

    fn join(plan: &'p Plan, params: &[Datum], known: &Known) -> Option<Self> {
        let Op::Join {
            kind,
            left,
            right,
            keys,
            residual,
            ..
        } = &plan.op
        else {
            return None;
        };
        let (mut keys, mut residual) = (keys.clone(), residual.clone());
        let sides = |key: &mut JoinKey| make_portable([&mut key.left, &mut key.right], params);
        if !keys.iter_mut().all(sides) || !make_portable(&mut residual, params) {
            return None;
        }
        let joined = |given: &Plan, inlet, is_left| Joined {
            kind: *kind,
            keys: keys.clone(),
            residual: residual.clone(),
            inlet,
            given: given.columns.clone(),
            rows: given.rows,
            is_left,
            columns: plan.columns.clone(),
        };
        for (spread, given) in ways(*kind, left, right) {
            if !known.may_be_small(given) {
                continue;
            }
            if let Some(mut draft) = Self::drawn(spread, params, known) {
                let inlet = draft.inlets();
                draft.needs.push(given);
                let step = joined(given, inlet, std::ptr::eq(given, left.as_ref()));
                return draft.and_then(Step::Join(Box::new(step)));
            }
        }
        let sides = vec![
            Self::drawn(left, params, known)?.shuffled(known, &keys, |key| key.left.clone())?,
            Self::drawn(right, params, known)?.shuffled(known, &keys, |key| key.right.clone())?,
        ];
        let work = Work::with(Source::Inlet(left.columns.clone(), left.rows));
        let draft = Self {
            work,
            base: Base::Shuffled(sides),
            needs: Vec::new(),
        };
        draft.and_then(Step::Join(Box::new(joined(right, 1, false))))
    }

    /// The number of the next inlet.
    fn inlets(&self) -> usize {
        let shuffled = match &self.base {
            Base::Scan(_) => 0,
            Base::Shuffled(sides) => sides.len(),
        };
        shuffled + self.needs.len()
    }

    /// Whether its rows may be shuffled, which come from a scan. What parts have read through an index
    /// comes here with their rows, to be validated; shuffled rows do not come here.
    fn may_be_shuffled(&self, known: &Known) -> bool {
        match &self.base {
            Base::Scan(scan) => !(known.validates && scan.through_index()),
            Base::Shuffled(_) => false,
        }
    }

    /// The same with its rows shuffled by the keys of a join.
    fn shuffled(
        mut self,
        known: &Known,
        keys: &[JoinKey],
        side: impl Fn(&JoinKey) -> Expr,
    ) -> Option<Self> {
        let form = |key: &JoinKey| -> (Expr, Form) { (side(key), form_of(key)) };
        let keys: Vec<_> = keys.iter().map(form).collect();
        let can = !keys.is_empty() && self.gives_rows() && self.may_be_shuffled(known);
        self.work.shuffle = Some(Shuffle {
            keys: Keys::Exprs(keys),
            partitions: 0,
            few: 0,
        });
        can.then_some(self)
    }
}

/// Which side of a join can be spread over nodes while each is given all of the other one: a side
/// whose rows without a partner are not asked for. The larger one first.
fn ways<'p>(kind: JoinType, left: &'p Plan, right: &'p Plan) -> Vec<(&'p Plan, &'p Plan)> {
    let (by_left, by_right) = ((left, right), (right, left));
    match kind {
        JoinType::Inner if right.rows > left.rows => vec![by_right, by_left],
        JoinType::Inner => vec![by_left, by_right],
        JoinType::Left | JoinType::Semi | JoinType::Anti => vec![by_left],
        JoinType::Right => vec![by_right],
        JoinType::Full => Vec::new(),
    }
}

/// Whether a plan makes something of each row of tables.
fn gives_rows(plan: &Plan) -> bool {
    match &plan.op {
        Op::Scan(_) | Op::Join { lateral: false, .. } => true,
        Op::Filter { input, .. } | Op::Project { input, .. } => gives_rows(input),
        _ => false,
    }
}
