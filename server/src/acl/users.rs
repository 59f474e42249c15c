//! All users of the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use holdfast_engine::CommandError;
use parking_lot::RwLock;

use super::user::DEFAULT;
use super::{Catalogue, Log, Reading, User, has_spaces, merge_selectors};
use crate::config::Settings;

/// Users by name.
pub(super) type ByName = BTreeMap<Vec<u8>, Arc<User>>;

/// The users of a server, and the log of what they were refused.
#[derive(Debug)]
pub struct Users {
    catalogue: Catalogue,
    settings: Arc<Settings>,
    /// Grows with every change; what connections compare.
    version: AtomicU64,
    /// Whether new connections need a password.
    asks_password: AtomicBool,
    by_name: RwLock<ByName>,
    /// ACL LOG.
    pub log: Log,
}

impl Users {
    /// The user `default` alone, with the password of `requirepass` if one is set.
    #[must_use]
    pub fn new(catalogue: Catalogue, settings: Arc<Settings>) -> Self {
        let users = Self {
            catalogue,
            settings,
            version: AtomicU64::new(1),
            asks_password: AtomicBool::new(false),
            by_name: RwLock::default(),
            log: Log::default(),
        };
        users.change(|by_name| {
            by_name.insert(DEFAULT.to_vec(), Arc::new(users.configured_default()));
        });
        users
    }

    /// The user `default` as `requirepass` alone makes it.
    pub(super) fn configured_default(&self) -> User {
        let reading = self.reading();
        let mut user = User::new_default(&reading);
        set_password(&mut user, &self.settings.requirepass(), &reading);
        user
    }

    /// What rules are read with now.
    #[must_use]
    pub fn reading(&self) -> Reading<'_> {
        Reading { catalogue: &self.catalogue, all_channels: self.settings.acl_pubsub_default() }
    }

    /// The commands that rules name.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// A number that grows with every change of any user.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// Whether a new connection must log in: `default` has a password, or is off.
    #[must_use]
    pub fn asks_password(&self) -> bool {
        self.asks_password.load(Acquire)
    }

    /// Whether `default` needs no password: what protected mode asks.
    #[must_use]
    pub fn default_takes_any_password(&self) -> bool {
        self.default_user().takes_any_password()
    }

    /// The user of this name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Arc<User>> {
        self.by_name.read().get(name).cloned()
    }

    /// The user `default`.
    #[must_use]
    pub fn default_user(&self) -> Arc<User> {
        let known = self.get(DEFAULT);
        // Invariant: `default` is always there; a fresh one may do nothing.
        known.unwrap_or_else(|| Arc::new(User::new(DEFAULT, &self.reading())))
    }

    /// All users, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<User>> {
        self.by_name.read().values().cloned().collect()
    }

    fn change<T>(&self, change: impl FnOnce(&mut ByName) -> T) -> T {
        let mut by_name = self.by_name.write();
        let result = change(&mut by_name);
        let opens =
            by_name.get(DEFAULT).is_some_and(|user| user.is_enabled() && user.takes_any_password());
        self.asks_password.store(!opens, Release);
        // After the change: whoever sees the new version finds the new users.
        self.version.fetch_add(1, Release);
        result
    }

    /// What ACL SETUSER would make of a user; nothing is changed.
    ///
    /// # Errors
    /// As [`Users::set`].
    pub fn draft(&self, name: &[u8], rules: &[&[u8]]) -> Result<User, CommandError> {
        let before = self.get(name);
        self.make(name, rules, before.as_deref())
    }

    /// ACL SETUSER: all of the rules, or none.
    ///
    /// # Errors
    /// A name that a file could not carry, or the first rule that is wrong.
    pub fn set(&self, name: &[u8], rules: &[&[u8]]) -> Result<Arc<User>, CommandError> {
        self.change(|by_name| {
            let user = self.make(name, rules, by_name.get(name).map(|user| &**user))?;
            let user = Arc::new(user);
            by_name.insert(name.to_vec(), Arc::clone(&user));
            Ok(user)
        })
    }

    fn make(
        &self,
        name: &[u8],
        rules: &[&[u8]],
        before: Option<&User>,
    ) -> Result<User, CommandError> {
        if has_spaces(name) {
            return Err(CommandError::known(
                "ERR Usernames can't contain spaces or null characters",
            ));
        }
        let rules = merge_selectors(rules).map_err(|word| {
            CommandError::new(format!(
                "ERR Unmatched parenthesis in acl selector starting at '{}'.",
                String::from_utf8_lossy(word)
            ))
        })?;
        let reading = self.reading();
        let mut user = before.cloned().unwrap_or_else(|| User::new(name, &reading));
        for rule in &rules {
            user.apply(rule, &reading).map_err(|error| {
                CommandError::new(format!(
                    "ERR Error in ACL SETUSER modifier '{}': {}",
                    String::from_utf8_lossy(rule),
                    error.text()
                ))
            })?;
        }
        Ok(user)
    }

    /// Removes a user; whether it was there. Never `default`.
    pub fn remove(&self, name: &[u8]) -> bool {
        name != DEFAULT && self.change(|by_name| by_name.remove(name).is_some())
    }

    /// `requirepass`: the one password of `default`; none if it is empty.
    pub fn set_default_password(&self, password: &[u8]) {
        let reading = self.reading();
        self.change(|by_name| {
            if let Some(user) = by_name.get_mut(DEFAULT) {
                set_password(Arc::make_mut(user), password, &reading);
            }
        });
    }

    /// Puts these users in the place of all others.
    pub(super) fn replace(&self, users: ByName) {
        self.change(|by_name| *by_name = users);
    }
}

/// Makes this the one password of a user; none if it is empty.
fn set_password(user: &mut User, password: &[u8], reading: &Reading<'_>) {
    let rule = if password.is_empty() { b"nopass".to_vec() } else { [b">", password].concat() };
    // Neither rule can be refused.
    let _ = user.apply(b"resetpass", reading);
    let _ = user.apply(&rule, reading);
}
