//! One session: frames in, work, messages out.
//!
//! All complete frames that lie in the input buffer are worked off in one go; the future of that
//! work is boxed, so that an idle connection costs its two small buffers and its session only. A
//! panic in it ends this session with `XX000` and no other.
//!
//! `Invariant:` after an error in the extended protocol every frame up to the next Sync is dropped;
//! ReadyForQuery follows each Query and each Sync exactly once.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use pontoon_sql::error::Severity;
use pontoon_sql::session::api::{Format, RowBatch, RowSource, RowsTag, TransactionStatus};
use pontoon_sql::session::{CancelHandle, Session, place};
use pontoon_sql::{SqlError, SqlState};

use super::frames::{self, Frame, Frontend};
use super::io::{Io, Stream, Woken};
use super::out;
use super::rows::RowEncoder;
use crate::admin::metrics::Metrics;

/// To read a statement or parameters of so many bytes takes long.
const LONG_FRAME_BYTES: usize = 16 << 10;

/// A portal as the server sees it.
pub(crate) enum Portal {
    /// Bound, not run.
    Bound(Vec<Format>),
    /// Some rows were sent, more are to come.
    Suspended(Box<Running>),
    /// Run to its end; the tag without rows that another Execute answers, if it may be run again.
    Finished(Option<&'static str>),
}

/// Rows on their way.
pub(crate) struct Running {
    /// Where they come from.
    pub(crate) source: Box<dyn RowSource>,
    /// How they are written.
    pub(crate) encoder: RowEncoder,
    /// How the command is named.
    pub(crate) tag: RowsTag,
    /// A batch and how many of its rows were sent.
    pub(crate) pending: Option<(RowBatch, usize)>,
}

/// Whether the connection goes on.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// With the next frame.
    Continue,
    /// The client said goodbye, or the stream cannot be followed.
    Close,
}

/// A connection past its start-up.
pub(crate) struct Connection<S> {
    pub(crate) io: Io<S>,
    pub(crate) session: Session,
    pub(crate) cancel: CancelHandle,
    pub(crate) metrics: Arc<Metrics>,
    /// Portals by name; the unnamed one is by far the most used.
    pub(crate) unnamed: Option<Portal>,
    pub(crate) portals: HashMap<String, Portal>,
    /// Frames are dropped up to the next Sync.
    skipping: bool,
    /// The node shuts down and has ended the statement: the farewell is all that is left to say.
    ending: bool,
}

impl<S: Stream> Connection<S> {
    /// Takes over after start-up; ReadyForQuery was not sent yet.
    pub(crate) fn new(io: Io<S>, session: Session, metrics: Arc<Metrics>) -> Self {
        let cancel = session.cancel_handle();
        Self {
            io,
            session,
            cancel,
            metrics,
            unnamed: None,
            portals: HashMap::new(),
            skipping: false,
            ending: false,
        }
    }

    /// Serves the client to the end of the session.
    pub(crate) async fn serve(mut self) {
        out::ready(&mut self.io.out, self.session.status());
        self.io.flush().await;
        loop {
            place::go_home().await;
            match self.wait().await {
                Woken::Input => {}
                Woken::Closed => break,
                Woken::Shutdown => {
                    self.farewell(SqlError::new(
                        SqlState::ADMIN_SHUTDOWN,
                        "terminating connection due to administrator command",
                    ));
                    break;
                }
            }
            match AssertUnwindSafe(Box::pin(self.work())).catch_unwind().await {
                Ok(Next::Continue) => self.io.shrink(),
                Ok(Next::Close) => break,
                Err(panic) => {
                    let what = panic_text(&*panic);
                    tracing::error!(panic = what, "a session ended by a panic");
                    self.farewell(SqlError::internal(what));
                    break;
                }
            }
        }
        self.io.close().await;
    }

    /// Waits for input, with the time limit of an idle transaction.
    async fn wait(&mut self) -> Woken {
        let idle = self.session.status() == TransactionStatus::Idle;
        let limit = if idle {
            None
        } else {
            self.session.idle_in_transaction_timeout()
        };
        let Some(limit) = limit else {
            return self.io.wait().await;
        };
        match tokio::time::timeout(limit, self.io.wait()).await {
            Ok(woken) => woken,
            Err(_) => {
                self.farewell(SqlError::new(
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    "terminating connection due to idle-in-transaction timeout",
                ));
                Woken::Closed
            }
        }
    }

    /// Tells the client why its session ends.
    fn farewell(&mut self, mut error: SqlError) {
        error.0.severity = Severity::Fatal;
        out::error(&mut self.io.out, &error);
    }

    /// Works off all complete frames of the input.
    async fn work(&mut self) -> Next {
        loop {
            if self.io.closed {
                return Next::Close;
            }
            if *self.io.shutdown.borrow() {
                return Next::Continue;
            }
            // A long pipeline of short statements.
            place::pause_when_long().await;
            let frame = match frames::take(&mut self.io.input) {
                Ok(Some(frame)) if frame.body.len() > LONG_FRAME_BYTES => {
                    place::leave().await;
                    frame
                }
                Ok(Some(frame)) => frame,
                Ok(None) => return Next::Continue,
                Err(e) => {
                    self.farewell(e);
                    return Next::Close;
                }
            };
            if self.frame(&frame).await == Next::Close {
                return Next::Close;
            }
        }
    }

    async fn frame(&mut self, frame: &Frame) -> Next {
        if self.skipping && !matches!(frame.kind, b'S' | b'X') {
            return Next::Continue;
        }
        let message = match frame.read() {
            Ok(message) => message,
            Err(e) if matches!(frame.kind, b'Q' | b'F') => {
                self.report(e);
                self.ready().await;
                return Next::Continue;
            }
            // As PostgreSQL: COPY frames outside COPY are dropped, whatever they hold.
            Err(_) if matches!(frame.kind, b'd' | b'c' | b'f') => return Next::Continue,
            Err(e) => {
                self.fail_batch(e);
                return Next::Continue;
            }
        };
        let done = match message {
            Frontend::Query(sql) => {
                Box::pin(self.query(sql)).await;
                self.ready().await;
                Ok(())
            }
            Frontend::Parse { name, sql, types } => self.parse(name, sql, &types).await,
            Frontend::Bind {
                portal,
                statement,
                parameters,
                formats,
            } => self.bind(portal, statement, parameters, formats).await,
            Frontend::Describe(target, name) => self.describe(target, name),
            Frontend::Execute { portal, rows_max } => self.execute(portal, rows_max).await,
            Frontend::Close(target, name) => {
                self.close(target, name);
                Ok(())
            }
            Frontend::Flush => {
                self.io.flush().await;
                Ok(())
            }
            Frontend::Sync => {
                self.sync().await;
                Ok(())
            }
            Frontend::Terminate => return Next::Close,
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(()),
            Frontend::FunctionCall => {
                self.report(SqlError::unsupported("the function call protocol"));
                self.ready().await;
                Ok(())
            }
        };
        if let Err(e) = done {
            self.fail_batch(e);
        }
        Next::Continue
    }

    /// Sends an error and lets the session take note of it.
    pub(crate) fn report(&mut self, error: SqlError) {
        self.metrics.errors.add();
        // As PostgreSQL: the statement's error is that the connection ends.
        self.ending |= error.state == SqlState::QUERY_CANCELED && *self.io.shutdown.borrow();
        if !self.ending {
            self.side_messages();
            out::error(&mut self.io.out, &error);
        }
        self.session.fail();
        self.drop_portals();
    }

    /// An error in the extended protocol.
    fn fail_batch(&mut self, error: SqlError) {
        self.report(error);
        self.skipping = true;
    }

    async fn sync(&mut self) {
        self.skipping = false;
        if let Err(e) = self.session.finish().await {
            self.report(e);
        }
        self.ready().await;
    }

    /// ReadyForQuery, and everything goes out.
    async fn ready(&mut self) {
        if self.ending {
            return;
        }
        let status = self.session.status();
        if status == TransactionStatus::Idle {
            self.drop_portals();
        }
        self.side_messages();
        out::ready(&mut self.io.out, status);
        self.io.flush().await;
    }

    /// Notices and changed parameters that the session has gathered.
    pub(crate) fn side_messages(&mut self) {
        for message in self.session.take_messages() {
            out::side_message(&mut self.io.out, &message);
        }
    }

    pub(crate) fn drop_portals(&mut self) {
        self.unnamed = None;
        if !self.portals.is_empty() {
            self.portals.clear();
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panic".to_owned())
}
