//! A user: passwords and selectors; and whether it may run a command.

use std::sync::Arc;

use holdfast_engine::command::{Access, Args, Command, Flags};
use smallvec::SmallVec;

use super::password::{self, Hash};
use super::selector::Need;
use super::{Catalogue, Reading, RuleError, Selector, merge_selectors};

/// What a user may not do; with the place among the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// Run the command.
    Command,
    /// Use this key.
    Key(usize),
    /// Use this channel.
    Channel(usize),
}

/// A user as it is from one change to the next.
#[derive(Debug, Clone)]
pub struct User {
    name: Arc<[u8]>,
    enabled: bool,
    any_password: bool,
    /// Kept for GETUSER and LIST: payloads of RESTORE are always checked here.
    skips_sanitizing: bool,
    passwords: Vec<Hash>,
    root: Selector,
    selectors: Vec<Selector>,
    unrestricted: bool,
}

/// The name of the user every connection begins with.
pub(super) const DEFAULT: &[u8] = b"default";

impl User {
    /// A new user: off, and may do nothing.
    #[must_use]
    pub fn new(name: &[u8], reading: &Reading<'_>) -> Self {
        Self {
            name: name.into(),
            enabled: false,
            any_password: false,
            skips_sanitizing: false,
            passwords: Vec::new(),
            root: Selector::new(reading),
            selectors: Vec::new(),
            unrestricted: false,
        }
    }

    /// The user `default` as it is when nothing is configured: on, without a password, all
    /// allowed.
    #[must_use]
    pub fn new_default(reading: &Reading<'_>) -> Self {
        let mut user = Self::new(DEFAULT, reading);
        for rule in ["+@all", "~*", "&*", "on", "nopass"] {
            // These rules cannot be refused.
            let _ = user.apply(rule.as_bytes(), reading);
        }
        user
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<[u8]> {
        &self.name
    }

    /// Its name for texts.
    #[must_use]
    pub fn shown_name(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// Whether it is the user of connections that have not said another.
    #[must_use]
    pub fn is_default(&self) -> bool {
        &*self.name == DEFAULT
    }

    /// Whether it may log in.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether any password does.
    #[must_use]
    pub fn takes_any_password(&self) -> bool {
        self.any_password
    }

    /// Whether it may do everything: then nobody need ask.
    #[inline]
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.unrestricted
    }

    /// Applies one rule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn apply(&mut self, rule: &[u8], reading: &Reading<'_>) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"" => {}
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"skip-sanitize-payload" => self.skips_sanitizing = true,
            b"sanitize-payload" => self.skips_sanitizing = false,
            b"nopass" => {
                self.any_password = true;
                self.passwords.clear();
            }
            b"resetpass" => {
                self.any_password = false;
                self.passwords.clear();
            }
            b"clearselectors" => self.selectors.clear(),
            b"reset" => *self = Self { name: Arc::clone(&self.name), ..Self::new(b"", reading) },
            _ => match rule {
                [b'>', text @ ..] => self.add_password(password::hash(text)),
                [b'#', text @ ..] => {
                    self.add_password(password::read(text).ok_or(RuleError::BadHash)?);
                }
                [b'<', text @ ..] => self.remove_password(&password::hash(text))?,
                [b'!', text @ ..] => {
                    self.remove_password(&password::read(text).ok_or(RuleError::BadHash)?)?;
                }
                [b'(', .., b')'] => self.selectors.push(Selector::parse(rule, reading)?),
                _ => self.root.apply(rule, reading)?,
            },
        }
        let unrestricted = self.all_selectors().any(Selector::allows_all);
        self.unrestricted = unrestricted;
        Ok(())
    }

    fn add_password(&mut self, hash: Hash) {
        self.any_password = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: &Hash) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// Whether it may log in with this password.
    #[must_use]
    pub fn admits(&self, password: &[u8]) -> bool {
        let hash = password::hash(password);
        // All are compared, so that the duration tells nothing of which one fits.
        let known = self.passwords.iter().filter(|known| password::is_same(known, &hash)).count();
        self.enabled && (self.any_password || known > 0)
    }

    fn all_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// The selectors beside the root.
    #[must_use]
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// The root selector.
    #[must_use]
    pub fn root(&self) -> &Selector {
        &self.root
    }

    /// Whether it may run a command with these arguments, whose arity fits.
    ///
    /// # Errors
    /// What it may not do: of several selectors, the one that came furthest tells.
    pub fn check(&self, id: u16, row: &Command, args: Args<'_>) -> Result<(), Denied> {
        if self.unrestricted {
            return Ok(());
        }
        let keys = keys_of(row, args);
        let mut furthest = Denied::Command;
        for selector in self.all_selectors() {
            match check(selector, id, row, args, &keys) {
                Ok(()) => return Ok(()),
                Err(denied) => furthest = furthest.max(denied),
            }
        }
        Err(furthest)
    }

    /// As [`User::check`], and whether the selector that allows it lets any key be read: what
    /// SORT's patterns ask for.
    #[must_use]
    pub fn reads_all_keys(&self, id: u16, row: &Command, args: Args<'_>) -> bool {
        let keys = keys_of(row, args);
        self.unrestricted
            || self.all_selectors().any(|selector| {
                selector.reads_all_keys() && check(selector, id, row, args, &keys).is_ok()
            })
    }

    /// Whether it may go on listening to a channel, or to a pattern of channels.
    #[must_use]
    pub fn may_listen(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_selectors().any(|selector| match is_pattern {
            true => selector.allows_channel_pattern(channel),
            false => selector.allows_channel(channel),
        })
    }

    /// Its flags, as GETUSER lists them.
    #[must_use]
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.any_password {
            flags.push("nopass");
        }
        flags.push(match self.skips_sanitizing {
            true => "skip-sanitize-payload",
            false => "sanitize-payload",
        });
        flags
    }

    /// The hashes of its passwords.
    #[must_use]
    pub fn passwords(&self) -> &[[u8; 64]] {
        &self.passwords
    }

    /// The line that makes it again: `user name rule …`.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut words = vec![b"user".to_vec(), self.name.to_vec()];
        words.extend(self.flags().iter().map(|flag| flag.as_bytes().to_vec()));
        words.extend(self.passwords.iter().map(|hash| [b"#", &hash[..]].concat()));
        words.push(self.root.describe());
        words.extend(self.selectors.iter().map(|s| [b"(", &s.describe()[..], b")"].concat()));
        words.join(&b' ')
    }
}

/// What a user may do, without who may log in as it: what a log of proposals may carry.
impl User {
    /// Its name and the rules of its selectors, with spaces between.
    #[must_use]
    pub fn rules(&self) -> Vec<u8> {
        let mut words = vec![self.name.to_vec(), self.root.describe()];
        words.extend(self.selectors.iter().map(|s| [b"(", &s.describe()[..], b")"].concat()));
        words.join(&b' ')
    }

    /// The user that [`User::rules`] told of, whatever the settings of this node are; `None` if
    /// this version does not know the rules.
    #[must_use]
    pub fn from_rules(rules: &[u8], catalogue: &Catalogue) -> Option<Self> {
        let reading = Reading { catalogue, all_channels: false };
        let mut words = rules.split(|byte| *byte == b' ');
        let mut user = Self::new(words.next()?, &reading);
        let words: Vec<&[u8]> = words.collect();
        for rule in merge_selectors(&words).ok()? {
            user.apply(&rule, &reading).ok()?;
        }
        Some(user)
    }
}

type Keys = SmallVec<[(usize, Need); 4]>;

/// The keys of a command with what it does to them; none if their count is malformed, for then
/// the command touches none.
fn keys_of(row: &Command, args: Args<'_>) -> Keys {
    let mut keys = Keys::new();
    let whole = row.each_key(args, |index, access| {
        let need = |read, write| Need { read, write };
        keys.extend(match access {
            Access::NotKey => None,
            Access::Look => Some((index, need(false, false))),
            Access::Read | Access::ReadInPlace => Some((index, need(true, false))),
            Access::Update | Access::Take | Access::Merge => Some((index, need(true, true))),
            Access::UpdateVaries => Some((index, varying(row, args))),
            Access::Modify
            | Access::Insert
            | Access::Create
            | Access::Overwrite
            | Access::Delete
            | Access::Remove => Some((index, need(false, true))),
        });
    });
    if whole.is_err() {
        keys.clear();
    }
    keys
}

/// What SET and BITFIELD do to their key, which their options decide.
fn varying(row: &Command, args: Args<'_>) -> Need {
    let is = |arg: &[u8], word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
    match row.name {
        "set" => {
            let reads = args.iter().skip(3).any(|arg| is(arg, "get"));
            Need { read: reads, write: true }
        }
        "bitfield" => {
            let mut rest = args.get(2..).unwrap_or_default();
            let only_reads = loop {
                rest = match rest {
                    [] => break true,
                    [get, _, _, rest @ ..] if is(get, "get") => rest,
                    [overflow, _, rest @ ..] if is(overflow, "overflow") => rest,
                    _ => break false,
                };
            };
            Need { read: true, write: !only_reads }
        }
        _ => Need { read: true, write: true },
    }
}

/// The arguments that are channels, and whether they are patterns.
fn channels_of(row: &Command, count: usize) -> (std::ops::Range<usize>, bool) {
    match row.name {
        "publish" | "spublish" if row.parent.is_none() => (1..2.min(count), false),
        "subscribe" | "ssubscribe" => (1..count, false),
        "psubscribe" => (1..count, true),
        _ => (0..0, false),
    }
}

fn check(
    selector: &Selector,
    id: u16,
    row: &Command,
    args: Args<'_>,
    keys: &Keys,
) -> Result<(), Denied> {
    let first_arg = args.get(if row.parent.is_some() { 2 } else { 1 }).copied();
    if !row.flags.has(Flags::NO_AUTH) && !selector.allows_command(id, first_arg) {
        return Err(Denied::Command);
    }
    for (index, need) in keys {
        if !selector.allows_key(args[*index], *need) {
            return Err(Denied::Key(*index));
        }
    }
    let (channels, are_patterns) = channels_of(row, args.len());
    for index in channels {
        let allowed = match are_patterns {
            true => selector.allows_channel_pattern(args[index]),
            false => selector.allows_channel(args[index]),
        };
        if !allowed {
            return Err(Denied::Channel(index));
        }
    }
    Ok(())
}
