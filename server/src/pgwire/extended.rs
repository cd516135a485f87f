//! The extended protocol: Parse, Bind, Describe, Execute, Close.
//!
//! Answers are only appended to the output buffer here; Sync and Flush write them. A portal whose
//! row limit was reached keeps its source, and the next Execute goes on with it.

use pontoon_sql::session::api::{Format, Outcome, RowsTag, WireValue};
use pontoon_sql::types::Oid;
use pontoon_sql::{SqlError, SqlState};

use super::connection::{Connection, Portal, Running};
use super::frames::{self, Target};
use super::io::Stream;
use super::out;
use super::rows::RowEncoder;
use super::simple::rows_tag;

impl<S: Stream> Connection<S> {
    pub(crate) async fn parse(
        &mut self,
        name: &str,
        sql: &str,
        types: &[Oid],
    ) -> Result<(), SqlError> {
        let Self {
            io,
            session,
            cancel,
            ..
        } = self;
        io.watched(cancel, session.prepare(name, sql, types))
            .await?;
        self.io.out.extend_from_slice(out::PARSE_COMPLETE);
        Ok(())
    }

    pub(crate) async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameters: Vec<WireValue>,
        formats: Vec<Format>,
    ) -> Result<(), SqlError> {
        let Self {
            io,
            session,
            cancel,
            ..
        } = self;
        let bound = session.bind(portal, statement, parameters, &formats);
        io.watched(cancel, bound).await?;
        self.put_portal(portal, Portal::Bound(formats));
        self.io.out.extend_from_slice(out::BIND_COMPLETE);
        Ok(())
    }

    pub(crate) fn describe(&mut self, target: Target, name: &str) -> Result<(), SqlError> {
        match target {
            Target::Statement => {
                let description = self.session.describe_statement(name)?;
                out::parameter_description(&mut self.io.out, &description.parameters);
                match description.columns {
                    Some(columns) => out::row_description(&mut self.io.out, &columns, &[]),
                    None => self.io.out.extend_from_slice(out::NO_DATA),
                }
            }
            Target::Portal => match self.session.describe_portal(name)? {
                Some((columns, formats)) => {
                    out::row_description(&mut self.io.out, &columns, &formats);
                }
                None => self.io.out.extend_from_slice(out::NO_DATA),
            },
        }
        Ok(())
    }

    pub(crate) fn close(&mut self, target: Target, name: &str) {
        match target {
            Target::Statement => self.session.close_statement(name),
            Target::Portal => {
                self.take_portal(name);
                self.session.close_portal(name);
            }
        }
        self.io.out.extend_from_slice(out::CLOSE_COMPLETE);
    }

    pub(crate) async fn execute(&mut self, name: &str, rows_max: usize) -> Result<(), SqlError> {
        let rows_max = if rows_max == 0 { usize::MAX } else { rows_max };
        match self.take_portal(name) {
            Some(Portal::Suspended(running)) => self.go_on(name, running, rows_max).await,
            Some(Portal::Finished(Some(tag))) => {
                self.put_portal(name, Portal::Finished(Some(tag)));
                out::complete(&mut self.io.out, &format!("{tag} 0"));
                Ok(())
            }
            Some(Portal::Finished(None)) => {
                self.put_portal(name, Portal::Finished(None));
                Err(SqlError::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("portal \"{name}\" cannot be run"),
                ))
            }
            Some(Portal::Bound(formats)) => self.start(name, &formats, rows_max).await,
            // The session knows the right error.
            None => self.start(name, &[], rows_max).await,
        }
    }

    async fn start(
        &mut self,
        name: &str,
        formats: &[Format],
        rows_max: usize,
    ) -> Result<(), SqlError> {
        self.metrics.statements.add();
        let outcome = {
            let Self {
                io,
                session,
                cancel,
                ..
            } = self;
            io.watched(cancel, session.execute(name)).await?
        };
        let tag = match outcome {
            Outcome::Rows {
                columns,
                source,
                tag,
            } => {
                let encoder = RowEncoder::new(&columns, formats, self.session.output_context());
                let running = Box::new(Running {
                    source,
                    encoder,
                    tag,
                    pending: None,
                });
                return self.go_on(name, running, rows_max).await;
            }
            Outcome::Done(tag) => tag,
            Outcome::Empty => {
                self.put_portal(name, Portal::Finished(None));
                self.io.out.extend_from_slice(out::EMPTY_QUERY);
                return Ok(());
            }
            Outcome::CopyIn(sink) => Box::pin(self.copy_in(sink)).await?,
            Outcome::CopyOut(source) => Box::pin(self.copy_out(source)).await?,
        };
        self.put_portal(name, Portal::Finished(None));
        self.complete(&tag).await
    }

    async fn go_on(
        &mut self,
        name: &str,
        mut running: Box<Running>,
        rows_max: usize,
    ) -> Result<(), SqlError> {
        let (sent, all) = self.send_rows(&mut running, rows_max).await?;
        if !all {
            self.side_messages();
            self.put_portal(name, Portal::Suspended(running));
            self.io.out.extend_from_slice(out::PORTAL_SUSPENDED);
            return Ok(());
        }
        let again = match running.tag {
            RowsTag::Counted(verb) if verb == "SELECT" || verb == "FETCH" => Some(verb),
            _ => None,
        };
        self.put_portal(name, Portal::Finished(again));
        self.complete(&rows_tag(&running.tag, sent)).await
    }

    /// CommandComplete. If Sync follows at once (the usual case) the implicit transaction ends
    /// before it, so that a failed commit is reported instead of success.
    async fn complete(&mut self, tag: &str) -> Result<(), SqlError> {
        if frames::peek(&self.io.input) == Some(b'S') {
            let Self {
                io,
                session,
                cancel,
                ..
            } = self;
            io.watched(cancel, session.finish()).await?;
        }
        self.side_messages();
        out::complete(&mut self.io.out, tag);
        self.io.flush_if_large().await;
        Ok(())
    }

    fn take_portal(&mut self, name: &str) -> Option<Portal> {
        if name.is_empty() {
            self.unnamed.take()
        } else {
            self.portals.remove(name)
        }
    }

    fn put_portal(&mut self, name: &str, portal: Portal) {
        if name.is_empty() {
            self.unnamed = Some(portal);
        } else {
            self.portals.insert(name.to_owned(), portal);
        }
    }
}
