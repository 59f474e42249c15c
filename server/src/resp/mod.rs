//! The wire: requests in, replies out.
//!
//! [`RequestParser`] turns a connection's bytes into a [`Batch`] of commands; [`encode`] turns
//! replies into an [`Output`]. Only this room knows RESP2 from RESP3, and how Redis spells a
//! protocol error. It must never do socket I/O, know a command's name, or copy an argument.
//! Start at [`parse`](RequestParser), then [`encode`].

mod batch;
mod encode;
mod inline;
mod limits;
mod output;
mod parse;

pub use batch::{ArgRoom, Batch, Commands};
pub use encode::{Protocol, encode, encode_attributes, encode_into, encode_protocol_error};
pub use limits::{
    ARGS_MAX_DEFAULT, BULK_LEN_MAX_DEFAULT, LINE_LEN_MAX, Limits, ProtocolError,
    UNAUTHENTICATED_ARGS_MAX, UNAUTHENTICATED_BULK_LEN_MAX,
};
pub use output::{Output, SHARED_LEN_MIN};
pub use parse::{Parsed, RequestParser, Status};

/// The text of a double as ZSCORE, RESP3 and INCRBYFLOAT's kin print it.
///
/// See [`holdfast_engine::value::number::DoubleText`].
pub use holdfast_engine::value::number::DoubleText;
