//! What this node asks of other members on behalf of its clients.
//!
//! Sessions stay on the node that their clients reached. A node that does not lead sends proposals
//! to the leader and asks it from which index on a read of its own state is linearizable. Requests
//! travel over a few kept, authenticated connections; each has an id, and answers come in any
//! order. Nothing is sent twice unless it is certain that nothing was done, or it changes nothing.

mod ask;
mod link;
mod links;
pub mod message;
mod parked;
pub(super) mod reads;
pub mod serve;

pub use ask::ReadPoint;
pub use links::Links;
pub use message::{Answer, Listeners, Park, Publication, Request};
pub use parked::{Parked, Standing};
