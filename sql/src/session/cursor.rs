//! DECLARE, FETCH, MOVE, CLOSE. A cursor reads its rows when they are asked for and keeps those
//! that it has read as long as it may have to go back.

use std::sync::Arc;

use super::api::{Outcome, RowSource, RowsTag};
use super::run::{ReadyRows, rows_of};
use super::session::{Session, Work};
use crate::bind::tree::OutputColumn;
use crate::error::{SqlError, SqlState};
use crate::parse::Statement;
use crate::parse::statement::{DeclareCursor, Fetch, FetchDirection};
use crate::types::Datum;

/// A cursor.
pub(crate) struct Cursor {
    pub(crate) columns: Arc<[OutputColumn]>,
    /// Outlives its transaction.
    pub(crate) held: bool,
    scroll: bool,
    source: Option<Box<dyn RowSource>>,
    /// Rows read of the source, from number `start`.
    rows: Vec<Vec<Datum>>,
    start: i64,
    /// Number of the row that the cursor is on, from 1; 0 before the first.
    at: i64,
}

impl Cursor {
    /// Reads until row `number` is there (from 1) or the source ends.
    async fn read_to(&mut self, number: i64) -> Result<(), SqlError> {
        while self.start + i64::try_from(self.rows.len()).unwrap_or(i64::MAX) < number {
            let Some(source) = &mut self.source else {
                return Ok(());
            };
            match source.next().await? {
                Some(batch) => self.rows.extend(rows_of(batch, &self.columns)),
                None => self.source = None,
            }
        }
        Ok(())
    }

    fn count(&self) -> i64 {
        self.start + i64::try_from(self.rows.len()).unwrap_or(i64::MAX)
    }

    fn row(&self, number: i64) -> Option<Vec<Datum>> {
        let index = usize::try_from(number - self.start - 1).ok()?;
        self.rows.get(index).cloned()
    }

    /// Forgets rows that a cursor which only goes forward has passed.
    fn forget_passed(&mut self) {
        if self.scroll {
            return;
        }
        let passed = usize::try_from(self.at - self.start)
            .unwrap_or(0)
            .min(self.rows.len());
        self.rows.drain(..passed);
        self.start += i64::try_from(passed).unwrap_or(0);
    }

    fn check_backward(&self) -> Result<(), SqlError> {
        if self.scroll {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "cursor can only scan forward",
        )
        .with_hint("Declare it with SCROLL option to enable backward scan."))
    }

    async fn go(&mut self, direction: FetchDirection) -> Result<Vec<Vec<Datum>>, SqlError> {
        let mut out = Vec::new();
        match direction {
            FetchDirection::Relative(n) if n > 0 => {
                let target = self.at.saturating_add(n);
                self.read_to(target).await?;
                let end = target.min(self.count());
                for number in self.at + 1..=end {
                    out.extend(self.row(number));
                }
                self.at = if target > self.count() {
                    self.count() + 1
                } else {
                    target
                };
            }
            FetchDirection::Relative(0) => out.extend(self.row(self.at)),
            FetchDirection::Relative(n) => {
                self.check_backward()?;
                let target = self.at.saturating_add(n).max(0);
                let mut number = self.at - 1;
                while number >= 1 && number >= target {
                    out.extend(self.row(number));
                    number -= 1;
                }
                self.at = target;
            }
            FetchDirection::Absolute(n) => {
                let target = if n < 0 {
                    self.read_to(i64::MAX).await?;
                    (self.count() + 1 + n).max(0)
                } else {
                    n
                };
                self.jump(target, &mut out).await?;
            }
            FetchDirection::RelativeOne(n) => {
                let target = self.at.saturating_add(n).max(0);
                self.jump(target, &mut out).await?;
            }
        }
        self.forget_passed();
        Ok(out)
    }

    async fn jump(&mut self, target: i64, out: &mut Vec<Vec<Datum>>) -> Result<(), SqlError> {
        if target < self.at {
            self.check_backward()?;
        }
        self.read_to(target).await?;
        self.at = target.min(self.count() + 1);
        out.extend(self.row(self.at));
        Ok(())
    }
}

impl Session {
    /// DECLARE CURSOR.
    pub(crate) async fn declare(&mut self, declare: &DeclareCursor) -> Result<Outcome, SqlError> {
        if !declare.hold {
            self.inside_block("DECLARE CURSOR")?;
        }
        if declare.binary {
            return Err(SqlError::unsupported("a binary cursor"));
        }
        if self.cursors.contains_key(&declare.name) || self.portals.contains_key(&declare.name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{}\" already exists", declare.name),
            ));
        }
        let statement = Statement::Query(declare.query.clone());
        self.without_deadline();
        let outcome = self
            .run_bound(&Work::Fresh(&statement), Arc::from([]), false)
            .await?;
        let Outcome::Rows {
            columns, source, ..
        } = outcome
        else {
            return Err(SqlError::internal("a query without rows"));
        };
        let mut cursor = Cursor {
            columns,
            held: declare.hold,
            scroll: declare.scroll != Some(false),
            source: Some(source),
            rows: Vec::new(),
            start: 0,
            at: 0,
        };
        if declare.hold && !self.in_block() {
            cursor.read_to(i64::MAX).await?;
        }
        self.cursors.insert(declare.name.clone(), cursor);
        Ok(Outcome::Done("DECLARE CURSOR".to_owned()))
    }

    /// Reads the cursors that outlive the transaction to their end, before it commits.
    pub(crate) async fn prepare_held_cursors(&mut self) -> Result<(), SqlError> {
        for cursor in self.cursors.values_mut().filter(|c| c.held) {
            cursor.read_to(i64::MAX).await?;
        }
        Ok(())
    }

    /// FETCH and MOVE.
    pub(crate) async fn fetch(&mut self, fetch: &Fetch) -> Result<Outcome, SqlError> {
        let bounds = self.bounds();
        let Some(cursor) = self.cursors.get_mut(&fetch.cursor) else {
            return Err(no_cursor(&fetch.cursor));
        };
        let rows = bounds.run(cursor.go(fetch.direction)).await?;
        if fetch.moves {
            return Ok(Outcome::Done(format!("MOVE {}", rows.len())));
        }
        Ok(Outcome::Rows {
            columns: Arc::clone(&cursor.columns),
            source: Box::new(ReadyRows(Some(rows))),
            tag: RowsTag::Counted("FETCH"),
        })
    }

    /// CLOSE.
    pub(crate) fn close_cursor(&mut self, name: Option<&str>) -> Result<Outcome, SqlError> {
        match name {
            None => {
                self.cursors.clear();
                Ok(Outcome::Done("CLOSE CURSOR ALL".to_owned()))
            }
            Some(name) => match self.cursors.remove(name) {
                Some(_) => Ok(Outcome::Done("CLOSE CURSOR".to_owned())),
                None => Err(no_cursor(name)),
            },
        }
    }
}

fn no_cursor(name: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("cursor \"{name}\" does not exist"),
    )
}
