//! COPY FROM STDIN and COPY TO STDOUT, streamed in both directions.

use pontoon_sql::session::api::{CopySink, CopySource};
use pontoon_sql::{SqlError, SqlState};

use super::connection::Connection;
use super::frames::{self, Frontend};
use super::io::{Stream, Woken};
use super::out;

impl<S: Stream> Connection<S> {
    /// Feeds the sink until the client ends the data; gives the tag.
    pub(crate) async fn copy_in(
        &mut self,
        mut sink: Box<dyn CopySink>,
    ) -> Result<String, SqlError> {
        let (columns, binary) = sink.shape();
        out::copy_response(&mut self.io.out, b'G', columns, binary);
        self.io.flush().await;
        loop {
            let frame = match frames::take(&mut self.io.input)? {
                Some(frame) => frame,
                None => match self.io.wait().await {
                    Woken::Input => continue,
                    Woken::Closed | Woken::Shutdown => {
                        return Err(SqlError::new(
                            SqlState::CONNECTION_FAILURE,
                            "unexpected EOF on client connection with an open transaction",
                        ));
                    }
                },
            };
            let kind = frame.kind;
            match frame.read()? {
                Frontend::CopyData(piece) => {
                    let Self { io, cancel, .. } = self;
                    io.watched(cancel, sink.data(&piece)).await?;
                }
                Frontend::CopyDone => {
                    let Self { io, cancel, .. } = self;
                    return io.watched(cancel, sink.done()).await;
                }
                Frontend::CopyFail(reason) => {
                    return Err(SqlError::new(
                        SqlState::QUERY_CANCELED,
                        format!("COPY from stdin failed: {reason}"),
                    ));
                }
                // Sent ahead by clients that do not wait for the answer to Execute.
                Frontend::Flush | Frontend::Sync => {}
                _ => {
                    return Err(SqlError::new(
                        SqlState::PROTOCOL_VIOLATION,
                        format!("unexpected message type 0x{kind:02X} during COPY from stdin"),
                    ));
                }
            }
        }
    }

    /// Sends all the data; gives the tag.
    pub(crate) async fn copy_out(
        &mut self,
        mut source: Box<dyn CopySource>,
    ) -> Result<String, SqlError> {
        let (columns, binary) = source.shape();
        out::copy_response(&mut self.io.out, b'H', columns, binary);
        loop {
            let lines = {
                let Self { io, cancel, .. } = self;
                io.watched(cancel, source.next()).await?
            };
            let Some(lines) = lines else { break };
            for line in lines {
                out::frame(&mut self.io.out, b'd', |o| o.extend_from_slice(&line));
                self.io.flush_if_large().await;
            }
            if self.io.closed {
                return Err(SqlError::new(
                    SqlState::CONNECTION_FAILURE,
                    "connection to client lost",
                ));
            }
        }
        self.io.out.extend_from_slice(out::COPY_DONE);
        Ok(source.tag())
    }
}
