//! Values as text: PostgreSQL's input and output functions, and the encoders that write straight
//! into a message. (Binary: [`super::binary`].)

mod input;
mod output;
mod scalar;

pub use input::input;
pub(crate) use output::type_of;
pub use output::{output, quote_identifier, to_text};
pub(crate) use scalar::push_hex;
pub use scalar::{
    parse_bool, parse_bytea, parse_float, parse_integer, parse_uuid, write_bytea, write_float4,
    write_float8, write_uuid,
};

pub use super::binary::{receive, send};
pub use super::wire::{wire_binary, wire_binary_at, wire_text, wire_text_at};
