//! Users and what they may do: ACL's rules, as pure data.
//!
//! - [`Catalogue`]: the commands that rules name, by number.
//! - [`Selector`] and [`User`]: what rules make; neither changes once it is in force.
//! - [`Users`]: all users by name, with a version that grows with every change, so that a
//!   connection may keep its user and look again only when the version is another.
//! - [`Log`]: ACL LOG. `file` reads and writes users as lines.
//!
//! Users belong to this server alone, as in Redis: nothing here is journaled or replicated.
//! Who asks, and when, is in `route::rights`; the commands are in `admin::acl`.

mod catalogue;
pub mod file;
mod log;
mod password;
mod rules;
mod selector;
#[cfg(test)]
mod tests;
mod user;
mod users;

pub use catalogue::Catalogue;
pub use log::{Context, Entry, Event, Log, Reason};
pub use rules::{RuleError, has_spaces, merge_selectors};
pub use selector::Selector;
pub use user::{Denied, User};
pub use users::Users;

/// What rules are read with.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The commands they may name.
    pub catalogue: &'a Catalogue,
    /// Whether a new selector begins with all channels (`acl-pubsub-default`).
    pub all_channels: bool,
}
