//! COPY: rows in and out as text, CSV or PostgreSQL's binary form, streamed in bounded batches.

mod decode;
mod encode;
mod from;
mod options;
mod to;
