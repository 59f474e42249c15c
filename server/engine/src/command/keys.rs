//! Where a command's keys stand among its arguments, and which shards it needs.

use super::{Args, Command, Flags};

/// Where the search for keys begins.
#[derive(Debug, Clone, Copy)]
pub enum Begin {
    /// At this argument.
    Index(usize),
    /// After this keyword, searched from this argument on (a negative one counts from the end):
    /// so COMMAND INFO says. The function finds it, for a search cannot tell a keyword from an
    /// argument that is spelt like one.
    Keyword(&'static str, i64, fn(Args<'_>) -> Option<usize>),
    /// At this argument, if the function says so.
    IndexIf(usize, fn(Args<'_>) -> bool),
    /// At the argument that this function finds: what COMMAND INFO calls `unknown`.
    Unknown(fn(Args<'_>) -> Option<usize>),
}

/// How the keys go on from the beginning.
#[derive(Debug, Clone, Copy)]
pub enum Find {
    /// Every `step`-th argument up to `last`: 0 is the first itself, negative counts from the
    /// end of the arguments. `limit` 0 or 1 means all; 2 means the first half only.
    Range {
        /// The last key relative to the first, or from the end if negative.
        last: i64,
        /// Distance between keys.
        step: usize,
        /// Divides what remains.
        limit: usize,
    },
    /// A count, then that many keys (EVAL, ZUNION).
    Count {
        /// Where the count stands, relative to the beginning.
        at: usize,
        /// Where the first key stands, relative to the beginning.
        first: usize,
        /// Distance between keys.
        step: usize,
    },
}

/// What the command does with these keys; the flags of COMMAND INFO's key specifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `RO ACCESS`
    Read,
    /// `RO`: only whether it is there or how large it is.
    Look,
    /// `RW ACCESS UPDATE`
    Update,
    /// `RW UPDATE`: changes it without telling what was there.
    Modify,
    /// `RW ACCESS UPDATE VARIABLE_FLAGS`: reads only under an option (SET … GET).
    UpdateVaries,
    /// `RW INSERT`
    Insert,
    /// `OW INSERT`: only where nothing was.
    Create,
    /// `OW UPDATE`: the old value is gone.
    Overwrite,
    /// `RM DELETE`
    Delete,
    /// `RW DELETE`: removes part of it.
    Remove,
    /// `RW ACCESS DELETE`
    Take,
    /// `RW ACCESS`: reads it, and keeps in it what was found out.
    ReadInPlace,
    /// `RW ACCESS INSERT`
    Merge,
    /// `not_key`: names something that is no key (a shard channel).
    NotKey,
}

impl Access {
    /// The flag names as COMMAND INFO lists them.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["RO", "access"],
            Self::Look => &["RO"],
            Self::Update => &["RW", "access", "update"],
            Self::Modify => &["RW", "update"],
            Self::UpdateVaries => &["RW", "access", "update", "variable_flags"],
            Self::Insert => &["RW", "insert"],
            Self::Create => &["OW", "insert"],
            Self::Overwrite => &["OW", "update"],
            Self::Delete => &["RM", "delete"],
            Self::Remove => &["RW", "delete"],
            Self::Take => &["RW", "access", "delete"],
            Self::ReadInPlace => &["RW", "access"],
            Self::Merge => &["RW", "access", "insert"],
            Self::NotKey => &["not_key"],
        }
    }
}

/// One group of keys of a command.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// Where it begins.
    pub begin: Begin,
    /// How it goes on.
    pub find: Find,
    /// What is done with the keys.
    pub access: Access,
}

impl KeySpec {
    /// A single key at argument `index`.
    #[must_use]
    pub const fn one(index: usize, access: Access) -> Self {
        Self::range(index, 0, 1, access)
    }

    /// Every `step`-th argument from `first`; `last` as in [`Find::Range`].
    #[must_use]
    pub const fn range(first: usize, last: i64, step: usize, access: Access) -> Self {
        Self { begin: Begin::Index(first), find: Find::Range { last, step, limit: 0 }, access }
    }

    /// The one key, if any, at the argument that `find` knows.
    #[must_use]
    pub const fn unknown(find: fn(Args<'_>) -> Option<usize>, access: Access) -> Self {
        let one = Find::Range { last: 0, step: 1, limit: 0 };
        Self { begin: Begin::Unknown(find), find: one, access }
    }

    /// A count at argument `at`, its keys right behind it.
    #[must_use]
    pub const fn counted(at: usize, access: Access) -> Self {
        Self { begin: Begin::Index(at), find: Find::Count { at: 0, first: 1, step: 1 }, access }
    }
}

/// Which shards a command needs locked before its handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of its keys.
    Keys,
    /// None: it visits shards one at a time, or touches no key at all.
    Free,
    /// Every shard of every database.
    All,
    /// Every shard of the selected database.
    Db,
    /// Those of its keys; but every shard if any argument after the keys spells `DB` (COPY).
    KeysUnlessDb,
    /// Those of its keys; but every shard of the selected database if any argument after the
    /// first key spells `BY`, `GET` or `STORE` (SORT): those name keys by their content.
    KeysUnlessPatterns,
}

/// Why the keys of a command cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysError {
    /// The command has none.
    NoKeys,
    /// A count is missing, not a number or larger than what follows.
    Invalid,
}

impl Command {
    /// The index of the one key, when the command has exactly one at a fixed place: the form
    /// of nearly every hot command.
    #[inline]
    #[must_use]
    pub fn single_key(&self) -> Option<usize> {
        match self.keys {
            [KeySpec { begin: Begin::Index(index), find: Find::Range { last: 0, .. }, .. }]
                if matches!(self.scope, Scope::Keys) =>
            {
                Some(*index)
            }
            _ => None,
        }
    }

    /// Calls `found` with the argument index of each key and what is done with it.
    ///
    /// # Errors
    /// [`KeysError`] when a key count is malformed; the handler then answers with its own error.
    pub fn each_key(
        &self,
        args: Args<'_>,
        mut found: impl FnMut(usize, Access),
    ) -> Result<(), KeysError> {
        for spec in self.keys {
            let Some(begin) = begin_of(spec.begin, args) else {
                continue;
            };
            match spec.find {
                Find::Range { last, step, limit } => {
                    let len = args.len();
                    let end = if last >= 0 {
                        begin + last as usize
                    } else if limit <= 1 {
                        len.checked_sub(last.unsigned_abs() as usize).ok_or(KeysError::Invalid)?
                    } else {
                        begin + (len.saturating_sub(begin)) / limit + last.unsigned_abs() as usize
                            - 2
                    };
                    for index in (begin..=end).step_by(step) {
                        if index >= len {
                            return Err(KeysError::Invalid);
                        }
                        found(index, spec.access);
                    }
                }
                Find::Count { at, first, step } => {
                    let count = args
                        .get(begin + at)
                        .and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok())
                        .ok_or(KeysError::Invalid)?;
                    if count > args.len().saturating_sub(begin + first) {
                        return Err(KeysError::Invalid);
                    }
                    for n in 0..count {
                        let index = begin + first + n * step;
                        if index >= args.len() {
                            return Err(KeysError::Invalid);
                        }
                        found(index, spec.access);
                    }
                }
            }
        }
        Ok(())
    }

    /// Argument indices of the keys with their access, for COMMAND GETKEYS.
    ///
    /// # Errors
    /// [`KeysError::NoKeys`] for a command without keys, [`KeysError::Invalid`] for bad counts.
    pub fn find_keys(&self, args: Args<'_>) -> Result<Vec<(usize, Access)>, KeysError> {
        let mut keys = Vec::new();
        if self.keys.iter().all(|spec| spec.access == Access::NotKey) {
            return Err(KeysError::NoKeys);
        }
        self.each_key(args, |index, access| {
            if access != Access::NotKey {
                keys.push((index, access));
            }
        })?;
        Ok(keys)
    }

    /// Whether the keys are not told by the legacy triple.
    #[must_use]
    pub fn has_movable_keys(&self) -> bool {
        self.flags.has(Flags::MOVABLE_KEYS)
            || self.keys.iter().any(|spec| {
                matches!(spec.find, Find::Count { .. })
                    || !matches!(spec.begin, Begin::Index(_) | Begin::IndexIf(..))
            })
    }
}

fn begin_of(begin: Begin, args: Args<'_>) -> Option<usize> {
    match begin {
        Begin::Index(index) => (index < args.len()).then_some(index),
        Begin::IndexIf(index, applies) => (index < args.len() && applies(args)).then_some(index),
        Begin::Keyword(_, _, find) | Begin::Unknown(find) => {
            find(args).filter(|index| *index < args.len())
        }
    }
}

/// The first key, last key and step of the specifications that say so by fixed indices.
pub(super) fn legacy_triple(specs: &[KeySpec]) -> (i64, i64, i64) {
    let mut triple: Option<(i64, i64, i64)> = None;
    for spec in specs {
        let (
            Begin::Index(begin) | Begin::IndexIf(begin, _),
            Find::Range { last, step, limit: 0 | 1 },
        ) = (spec.begin, spec.find)
        else {
            continue;
        };
        let begin = begin as i64;
        let last = if last >= 0 { begin + last } else { last };
        triple = Some(match triple {
            None => (begin, last, step as i64),
            // Two neighbouring single keys (RENAME) read as one range.
            Some((first, before, 1)) if before >= 0 && begin == before + 1 => (first, last, 1),
            Some(same) => same,
        });
    }
    triple.unwrap_or((0, 0, 0))
}
