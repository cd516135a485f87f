//! The simple protocol: a string of statements in, all their results out.
//!
//! The string is one implicit transaction. It ends after the rows of the last statement and before
//! its CommandComplete, so that a failed commit is never announced as success.

use pontoon_sql::SqlError;
use pontoon_sql::session::api::{Outcome, RowsTag};

use super::connection::{Connection, Running};
use super::io::{FLUSH_BYTES, Stream};
use super::out;
use super::rows::RowEncoder;

/// The end of a statement's answer.
enum Closing {
    /// CommandComplete with this tag.
    Tag(String),
    /// EmptyQueryResponse.
    Empty,
}

impl<S: Stream> Connection<S> {
    /// Runs the string; the caller sends ReadyForQuery.
    pub(crate) async fn query(&mut self, sql: &str) {
        if let Err(e) = self.query_inner(sql).await {
            self.report(e);
        }
    }

    async fn query_inner(&mut self, sql: &str) -> Result<(), SqlError> {
        self.unnamed = None;
        let statements = self.session.split(sql)?;
        if statements.is_empty() {
            self.session.finish().await?;
            self.io.out.extend_from_slice(out::EMPTY_QUERY);
            return Ok(());
        }
        for (i, statement) in statements.iter().enumerate() {
            let last = i + 1 == statements.len();
            if self.io.closed {
                return Err(gone());
            }
            self.metrics.statements.add();
            let outcome = {
                let Self {
                    io,
                    session,
                    cancel,
                    ..
                } = self;
                io.watched(cancel, session.run(statement, last)).await?
            };
            let closing = self.answer(outcome).await?;
            if last {
                let Self {
                    io,
                    session,
                    cancel,
                    ..
                } = self;
                io.watched(cancel, session.finish()).await?;
            }
            self.side_messages();
            match closing {
                Closing::Tag(tag) => out::complete(&mut self.io.out, &tag),
                Closing::Empty => self.io.out.extend_from_slice(out::EMPTY_QUERY),
            }
        }
        Ok(())
    }

    async fn answer(&mut self, outcome: Outcome) -> Result<Closing, SqlError> {
        Ok(match outcome {
            Outcome::Rows {
                columns,
                source,
                tag,
            } => {
                out::row_description(&mut self.io.out, &columns, &[]);
                let encoder = RowEncoder::new(&columns, &[], self.session.output_context());
                let mut running = Running {
                    source,
                    encoder,
                    tag,
                    pending: None,
                };
                let (sent, _) = self.send_rows(&mut running, usize::MAX).await?;
                Closing::Tag(rows_tag(&running.tag, sent))
            }
            Outcome::Done(tag) => Closing::Tag(tag),
            Outcome::Empty => Closing::Empty,
            Outcome::CopyIn(sink) => Closing::Tag(self.copy_in(sink).await?),
            Outcome::CopyOut(source) => Closing::Tag(self.copy_out(source).await?),
        })
    }

    /// Sends at most `rows_max` rows; gives their number, and whether there are none left.
    pub(crate) async fn send_rows(
        &mut self,
        running: &mut Running,
        rows_max: usize,
    ) -> Result<(usize, bool), SqlError> {
        let mut sent = 0;
        loop {
            let (batch, from) = match running.pending.take() {
                Some(pending) => pending,
                None => {
                    let Self { io, cancel, .. } = self;
                    match io.watched(cancel, running.source.next()).await? {
                        Some(batch) => (batch, 0),
                        None => return Ok((sent, true)),
                    }
                }
            };
            let rows = batch.len();
            let mut at = from;
            while at < rows && sent < rows_max {
                let until = rows.min(at.saturating_add(rows_max - sent));
                let n = running
                    .encoder
                    .write(&batch, at..until, &mut self.io.out, FLUSH_BYTES)?;
                at += n;
                sent += n;
                if self.io.out.len() >= FLUSH_BYTES {
                    self.io.flush().await;
                    if self.io.closed {
                        return Err(gone());
                    }
                }
            }
            if at < rows {
                running.pending = Some((batch, at));
            }
            if sent >= rows_max {
                return Ok((sent, false));
            }
        }
    }
}

fn gone() -> SqlError {
    SqlError::new(
        pontoon_sql::SqlState::CONNECTION_FAILURE,
        "connection to client lost",
    )
}

/// The command tag after so many rows.
pub(crate) fn rows_tag(tag: &RowsTag, rows: usize) -> String {
    match tag {
        RowsTag::Counted(verb) => format!("{verb} {rows}"),
        RowsTag::Fixed(tag) => (*tag).to_owned(),
    }
}
