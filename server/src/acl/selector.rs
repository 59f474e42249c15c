//! A selector: a set of commands together with the keys and channels they may touch.

use std::collections::BTreeMap;

use holdfast_engine::value::glob::Glob;

use super::{Reading, RuleError, has_spaces};

/// What may be done with the keys of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Need {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Need {
    fn covers(self, need: Self) -> bool {
        (self.read || !need.read) && (self.write || !need.write)
    }
}

#[derive(Debug, Clone)]
struct KeyPattern {
    glob: Glob,
    may: Need,
}

/// Commands, keys and channels: what a user may do if all three fit one of its selectors.
#[derive(Debug, Clone)]
pub struct Selector {
    /// Every command, those of the future too; no rule has taken one away.
    all_commands: bool,
    /// What the rules began with: `+@all` or `-@all`.
    began_with_all: bool,
    /// One bit per command of the catalogue.
    allowed: Box<[u64]>,
    /// First arguments with which a command may run that otherwise may not.
    first_args: BTreeMap<u16, Vec<Vec<u8>>>,
    /// The rules on commands since the beginning, each with its sign.
    rules: Vec<String>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Glob>,
}

impl Selector {
    /// May do nothing; all channels only where the configuration says so.
    #[must_use]
    pub fn new(reading: &Reading<'_>) -> Self {
        Self {
            all_commands: false,
            began_with_all: false,
            allowed: vec![0; reading.catalogue.len().div_ceil(64)].into(),
            first_args: BTreeMap::new(),
            rules: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels: reading.all_channels,
            channels: Vec::new(),
        }
    }

    /// Reads `(rule rule …)`.
    ///
    /// # Errors
    /// What is wrong with a rule.
    pub(super) fn parse(text: &[u8], reading: &Reading<'_>) -> Result<Self, RuleError> {
        let inside = text.strip_prefix(b"(").and_then(|text| text.strip_suffix(b")"));
        let inside = inside.ok_or(RuleError::Syntax)?;
        let mut selector = Self::new(reading);
        for rule in inside.split(u8::is_ascii_whitespace).filter(|rule| !rule.is_empty()) {
            selector.apply(rule, reading)?;
        }
        Ok(selector)
    }

    /// Applies one rule; on an error nothing has changed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn apply(&mut self, rule: &[u8], reading: &Reading<'_>) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"allkeys" | b"~*" => {
                self.all_keys = true;
                self.keys.clear();
            }
            b"resetkeys" => {
                self.all_keys = false;
                self.keys.clear();
            }
            b"allchannels" | b"&*" => {
                self.all_channels = true;
                self.channels.clear();
            }
            b"resetchannels" => {
                self.all_channels = false;
                self.channels.clear();
            }
            b"allcommands" | b"+@all" => self.begin_with(true),
            b"nocommands" | b"-@all" => self.begin_with(false),
            _ => match rule {
                [b'~', pattern @ ..] => self.add_keys(pattern, Need { read: true, write: true })?,
                [b'%', rest @ ..] => self.add_keys_with_flags(rest)?,
                [b'&', pattern @ ..] => self.add_channels(pattern)?,
                [b'+', b'@', name @ ..] => self.set_category(name, true, reading)?,
                [b'-', b'@', name @ ..] => self.set_category(name, false, reading)?,
                [b'+', name @ ..] => self.allow(name, reading)?,
                [b'-', name @ ..] => {
                    let id = reading.catalogue.find(name).ok_or(RuleError::Unknown)?;
                    self.set_command(id, false, reading);
                    self.note_rule(name, false);
                }
                _ => return Err(RuleError::Syntax),
            },
        }
        Ok(())
    }

    fn begin_with(&mut self, all: bool) {
        self.all_commands = all;
        self.began_with_all = all;
        self.allowed.fill(if all { u64::MAX } else { 0 });
        self.first_args.clear();
        self.rules.clear();
    }

    fn add_keys_with_flags(&mut self, rest: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAreAll);
        }
        let mut may = Need::default();
        let mut pattern: &[u8] = b"";
        for (at, flag) in rest.iter().enumerate() {
            match flag.to_ascii_uppercase() {
                b'R' if !may.read => may.read = true,
                b'W' if !may.write => may.write = true,
                b'~' => {
                    pattern = &rest[at + 1..];
                    break;
                }
                _ => return Err(RuleError::Syntax),
            }
        }
        if may == Need::default() {
            return Err(RuleError::Syntax);
        }
        self.add_keys(pattern, may)
    }

    fn add_keys(&mut self, pattern: &[u8], may: Need) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAreAll);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.glob.pattern() == pattern) {
            Some(known) => {
                known.may.read |= may.read;
                known.may.write |= may.write;
            }
            None => self.keys.push(KeyPattern { glob: Glob::new(pattern), may }),
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::ChannelsAreAll);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known.pattern() == pattern) {
            self.channels.push(Glob::new(pattern));
        }
        Ok(())
    }

    fn set_category(
        &mut self,
        name: &[u8],
        allowed: bool,
        reading: &Reading<'_>,
    ) -> Result<(), RuleError> {
        let ids = reading.catalogue.of_category(name).ok_or(RuleError::Unknown)?;
        for id in ids {
            self.set_bit(id, allowed);
            self.first_args.remove(&id);
        }
        self.note_rule(&[b"@", name].concat(), allowed);
        Ok(())
    }

    /// `+command`, `+container|subcommand` or `+command|first-argument`.
    fn allow(&mut self, name: &[u8], reading: &Reading<'_>) -> Result<(), RuleError> {
        let catalogue = reading.catalogue;
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            let id = catalogue.find(name).ok_or(RuleError::Unknown)?;
            self.set_command(id, true, reading);
            self.note_rule(name, true);
            return Ok(());
        };
        let (command, sub) = (&name[..bar], &name[bar + 1..]);
        let id = catalogue.find(command).ok_or(RuleError::Unknown)?;
        if catalogue.row(id).parent.is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if sub.is_empty() {
            return Err(RuleError::Syntax);
        }
        if catalogue.subcommands(id).is_empty() {
            tracing::warn!(
                "Deprecation warning: Allowing a first arg of an otherwise blocked command is a \
                 misuse of ACL and may get disabled in the future (offender: +{})",
                String::from_utf8_lossy(name)
            );
            let known = self.first_args.entry(id).or_default();
            if !known.iter().any(|other| other.eq_ignore_ascii_case(sub)) {
                known.push(sub.to_vec());
            }
        } else {
            let id = catalogue.find(name).ok_or(RuleError::Unknown)?;
            self.set_command(id, true, reading);
        }
        self.note_rule(name, true);
        Ok(())
    }

    /// Allows or forbids a command, with its subcommands.
    fn set_command(&mut self, id: u16, allowed: bool, reading: &Reading<'_>) {
        let subcommands = reading.catalogue.subcommands(id);
        for id in std::iter::once(&id).chain(subcommands) {
            self.set_bit(*id, allowed);
            self.first_args.remove(id);
        }
    }

    fn set_bit(&mut self, id: u16, allowed: bool) {
        let (word, bit) = (usize::from(id) / 64, 1 << (id % 64));
        if allowed {
            self.allowed[word] |= bit;
        } else {
            self.allowed[word] &= !bit;
            self.all_commands = false;
        }
    }

    /// Keeps a rule's text: it takes the place of what it makes void.
    fn note_rule(&mut self, name: &[u8], allowed: bool) {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        self.rules.retain(|rule| {
            let rest = rule[1..].strip_prefix(name.as_str());
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
        });
        self.rules.push(format!("{}{name}", if allowed { '+' } else { '-' }));
    }

    /// Whether nothing is refused by it.
    #[must_use]
    pub fn allows_all(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// Whether a command may run; `first_arg` is the argument behind its name, if it has one.
    pub(super) fn allows_command(&self, id: u16, first_arg: Option<&[u8]>) -> bool {
        let bit = 1 << (id % 64);
        if self.all_commands
            || self.allowed.get(usize::from(id) / 64).is_some_and(|word| word & bit != 0)
        {
            return true;
        }
        match (self.first_args.get(&id), first_arg) {
            (Some(known), Some(arg)) => known.iter().any(|other| other.eq_ignore_ascii_case(arg)),
            _ => false,
        }
    }

    /// Whether a key may be used so.
    pub(super) fn allows_key(&self, key: &[u8], need: Need) -> bool {
        self.all_keys
            || self.keys.iter().any(|known| known.may.covers(need) && known.glob.matches(key))
    }

    /// Whether any key at all may be read, those too that nobody has named.
    pub(super) fn reads_all_keys(&self) -> bool {
        self.all_keys
            || self.keys.iter().any(|known| known.may.read && known.glob.pattern() == b"*")
    }

    /// Whether a channel may be published to and subscribed to.
    pub(super) fn allows_channel(&self, channel: &[u8]) -> bool {
        self.all_channels || self.channels.iter().any(|known| known.matches(channel))
    }

    /// Whether a pattern may be subscribed to: it must stand in the rules to the letter.
    pub(super) fn allows_channel_pattern(&self, pattern: &[u8]) -> bool {
        self.all_channels || self.channels.iter().any(|known| known.pattern() == pattern)
    }

    /// The rules on commands, as GETUSER shows them.
    #[must_use]
    pub fn commands(&self) -> String {
        let mut text = if self.began_with_all { "+@all" } else { "-@all" }.to_owned();
        for rule in &self.rules {
            text.push(' ');
            text.push_str(rule);
        }
        text
    }

    /// The rules on keys.
    #[must_use]
    pub fn keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let rules = self.keys.iter().map(|known| {
            let sign: &[u8] = match known.may {
                Need { read: true, write: true } => b"~",
                Need { write: true, .. } => b"%W~",
                Need { .. } => b"%R~",
            };
            [sign, known.glob.pattern()].concat()
        });
        rules.collect::<Vec<_>>().join(&b' ')
    }

    /// The rules on channels.
    #[must_use]
    pub fn channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let rules = self.channels.iter().map(|known| [b"&", known.pattern()].concat());
        rules.collect::<Vec<_>>().join(&b' ')
    }

    /// All its rules, in the order in which they make it again.
    #[must_use]
    pub fn describe(&self) -> Vec<u8> {
        let mut words = Vec::new();
        let keys = self.keys();
        if !keys.is_empty() {
            words.push(keys);
        }
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        let channels = self.channels();
        if !channels.is_empty() {
            words.push(channels);
        }
        words.push(self.commands().into_bytes());
        words.join(&b' ')
    }
}
