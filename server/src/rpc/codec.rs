//! Frames as the items of a gRPC stream: bytes in, bytes out.

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The service and its one method.
pub(super) const PATH: &str = "/pontoon.Node/Exchange";
/// No frame is longer. The largest Raft command is 64 MiB; a frame holds more than one message only
/// up to [`super::outbox::FRAME_BYTES`].
pub(super) const FRAME_BYTES_MAX: usize = 256 << 20;

/// A frame to be sent: encoded messages, each with its length before it.
#[derive(Debug)]
pub(super) struct Frame(pub(super) Vec<Bytes>);

/// Writes frames and reads what others have written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for FrameCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, Frame(messages): Frame, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(messages.iter().map(Bytes::len).sum());
        for message in &messages {
            dst.put_slice(message);
        }
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}
