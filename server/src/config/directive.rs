//! What a directive is: its name, its type, its default, who may change it, and whether it
//! does anything here.
//!
//! The rows themselves are in `table`, values and their texts in
//! `value`. Nothing in this file reads or holds a value.

use super::value::Value;

/// The numbers an enumeration's words stand for; two words may share one, the first is printed.
pub type Words = &'static [(&'static str, i64)];

/// The type of a directive, which decides how its text is read and printed.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `yes` or `no`.
    YesNo,
    /// A decimal integer between two bounds, both included.
    Int(i128, i128),
    /// An octal integer, for file modes.
    Octal(i128, i128),
    /// Bytes with an optional unit: `100`, `1k`, `1kb`, `2mb`, `1gb`.
    Size(i128, i128),
    /// Bytes with a unit, or a percentage of maxmemory.
    SizeOrPercent,
    /// One word of a list.
    OneOf(Words),
    /// Several words of a list, whose numbers are bits.
    FlagWords(Words),
    /// Any bytes.
    Text,
    /// A directory that exists; relative ones are taken from the working directory.
    Directory,
    /// `seconds changes` pairs.
    SavePoints,
    /// `class hard soft seconds` quadruples.
    BufferLimits,
    /// The letters of keyspace event classes.
    Events,
    /// Three integers between -2000 and 2000.
    OomScores,
    /// Up to [`BIND_MAX`] addresses.
    Addresses,
    /// Percentiles between 0 and 100.
    Percentiles,
    /// `host port`, or `no one`.
    HostPort,
}

/// How many addresses `bind` takes, as in Redis.
pub const BIND_MAX: usize = 16;

impl Kind {
    /// Whether the value is a list of arguments rather than one.
    #[must_use]
    pub fn takes_several(self) -> bool {
        matches!(
            self,
            Self::FlagWords(_)
                | Self::SavePoints
                | Self::BufferLimits
                | Self::OomScores
                | Self::Addresses
                | Self::Percentiles
                | Self::HostPort
        )
    }
}

/// Who may change a directive once the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Anyone, by CONFIG SET.
    Settable,
    /// CONFIG SET, once a room has registered a hook that carries the change out.
    ByHook,
    /// CONFIG SET only under `enable-protected-configs`.
    Protected,
    /// Nobody.
    Immutable,
}

/// Whether a directive does anything here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// We act on it.
    Active,
    /// Taken so that a Redis configuration starts unchanged; the text says why it does nothing.
    Inert(&'static str),
    /// Any value but the default stops the start, for ignoring it would mislead; the text says
    /// what to do instead.
    Refused(&'static str),
}

/// What a value must fulfil beyond its type; `Err` is the reason.
pub type Rule = fn(&Value) -> Result<(), &'static str>;

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Directive {
    /// The name CONFIG REWRITE writes.
    pub name: &'static str,
    /// An older name for the same value.
    pub alias: Option<&'static str>,
    /// Its type.
    pub kind: Kind,
    /// The default in the words of a configuration file.
    pub default: &'static str,
    /// Who may change it.
    pub change: Change,
    /// Whether it does anything.
    pub class: Class,
    /// Left out of CONFIG GET unless named in full.
    pub hidden: bool,
    /// A secret: kept out of logs and error texts.
    pub sensitive: bool,
    /// In a cluster CONFIG SET changes it on all members, through the log.
    pub shared: bool,
    /// A value outside these bounds is moved to the nearer one rather than refused.
    pub clamp: Option<(i128, i128)>,
    /// A rule beyond the type.
    pub check: Option<Rule>,
}

impl Directive {
    const fn new(name: &'static str, kind: Kind, default: &'static str) -> Self {
        Self {
            name,
            alias: None,
            kind,
            default,
            change: Change::Settable,
            class: Class::Active,
            hidden: false,
            sensitive: false,
            shared: false,
            clamp: None,
            check: None,
        }
    }

    /// A `yes` or `no`.
    #[must_use]
    pub const fn yes_no(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::YesNo, default)
    }

    /// An integer.
    #[must_use]
    pub const fn int(name: &'static str, default: &'static str, min: i128, max: i128) -> Self {
        Self::new(name, Kind::Int(min, max), default)
    }

    /// A number of bytes.
    #[must_use]
    pub const fn size(name: &'static str, default: &'static str, min: i128, max: i128) -> Self {
        Self::new(name, Kind::Size(min, max), default)
    }

    /// One word of `words`.
    #[must_use]
    pub const fn one_of(name: &'static str, words: Words, default: &'static str) -> Self {
        Self::new(name, Kind::OneOf(words), default)
    }

    /// Any bytes.
    #[must_use]
    pub const fn text(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Text, default)
    }

    /// Any other type.
    #[must_use]
    pub const fn special(name: &'static str, kind: Kind, default: &'static str) -> Self {
        Self::new(name, kind, default)
    }

    /// Gives the older name.
    #[must_use]
    pub const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Fixed once the server runs.
    #[must_use]
    pub const fn immutable(mut self) -> Self {
        self.change = Change::Immutable;
        self
    }

    /// Changed only under `enable-protected-configs`.
    #[must_use]
    pub const fn protected(mut self) -> Self {
        self.change = Change::Protected;
        self
    }

    /// Changed only where a hook carries it out.
    #[must_use]
    pub const fn by_hook(mut self) -> Self {
        self.change = Change::ByHook;
        self
    }

    /// Does nothing here.
    #[must_use]
    pub const fn inert(mut self, why: &'static str) -> Self {
        self.class = Class::Inert(why);
        self
    }

    /// Only the default is taken.
    #[must_use]
    pub const fn refused(mut self, instead: &'static str) -> Self {
        self.class = Class::Refused(instead);
        self
    }

    /// Left out of globs.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Kept out of logs.
    #[must_use]
    pub const fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// A secret.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Moves values into bounds.
    #[must_use]
    pub const fn clamp(mut self, min: i128, max: i128) -> Self {
        self.clamp = Some((min, max));
        self
    }

    /// Adds a rule.
    #[must_use]
    pub const fn check(mut self, rule: Rule) -> Self {
        self.check = Some(rule);
        self
    }

    /// Whether `name` is this directive's name or alias, in any case.
    #[must_use]
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.name.as_bytes().eq_ignore_ascii_case(name)
            || self.alias.is_some_and(|alias| alias.as_bytes().eq_ignore_ascii_case(name))
    }
}
