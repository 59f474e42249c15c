//! When the fields of a hash expire.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::time::UnixMillis;

/// Fields with their expiries, by name and by time. Ordered maps, so that what is removed first
/// depends on nothing but the content.
#[derive(Debug, Clone, Default)]
pub struct Expiries {
    by_field: BTreeMap<Arc<[u8]>, UnixMillis>,
    by_time: BTreeSet<(UnixMillis, Arc<[u8]>)>,
    key: KeyExpiry,
}

/// Where the expiry of the key itself stands.
#[derive(Debug, Clone, Copy, Default)]
enum KeyExpiry {
    /// In its record, as for any key.
    #[default]
    InRecord,
    /// Here: the record bears the earlier of this one and the last field's.
    Here(Option<UnixMillis>),
}

impl Expiries {
    /// Number of fields with an expiry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_field.len()
    }

    /// Whether no field has one.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_field.is_empty()
    }

    /// When `field` expires.
    #[must_use]
    pub fn of(&self, field: &[u8]) -> Option<UnixMillis> {
        self.by_field.get(field).copied()
    }

    /// The fields with an expiry, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], UnixMillis)> {
        self.by_field.iter().map(|(field, at)| (&**field, *at))
    }

    /// The earliest expiry.
    #[must_use]
    pub fn first(&self) -> Option<UnixMillis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Whether any field has expired at `now`.
    #[inline]
    #[must_use]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        self.first().is_some_and(|at| at <= now)
    }

    /// How many fields have expired at `now`.
    #[must_use]
    pub fn due_count(&self, now: UnixMillis) -> usize {
        self.by_time.iter().take_while(|(at, _)| *at <= now).count()
    }

    /// A field that has expired at `now`, the earliest first.
    #[must_use]
    pub(super) fn first_due(&self, now: UnixMillis) -> Option<Arc<[u8]>> {
        self.by_time.first().filter(|(at, _)| *at <= now).map(|(_, field)| Arc::clone(field))
    }

    /// Sets or clears the expiry of a field.
    pub(super) fn set(&mut self, field: &[u8], at: Option<UnixMillis>) {
        if let Some((field, before)) = self.by_field.remove_entry(field) {
            self.by_time.remove(&(before, field));
        }
        if let Some(at) = at {
            let field: Arc<[u8]> = field.into();
            self.by_field.insert(Arc::clone(&field), at);
            self.by_time.insert((at, field));
        }
    }

    pub(super) fn own_expiry(&self, in_record: Option<UnixMillis>) -> Option<UnixMillis> {
        match self.key {
            KeyExpiry::InRecord => in_record,
            KeyExpiry::Here(own) => own,
        }
    }

    /// Whether a field has an expiry, or the key's stands here.
    pub(super) fn is_in_use(&self) -> bool {
        !self.is_empty() || matches!(self.key, KeyExpiry::Here(_))
    }

    /// See [`super::Hash::settle_expiry`]; `fields` is how many fields there are.
    pub(super) fn settle(&mut self, own: Option<UnixMillis>, fields: usize) -> Option<UnixMillis> {
        match self.by_time.last() {
            Some((last, _)) if self.len() == fields => {
                self.key = KeyExpiry::Here(own);
                Some(own.map_or(*last, |own| own.min(*last)))
            }
            _ => {
                self.key = KeyExpiry::InRecord;
                own
            }
        }
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub(super) fn memory_len(&self) -> usize {
        /// Two tree slots, and the counts before a shared field.
        const PER_FIELD: usize = 24 + 24 + 16;
        self.by_field.keys().map(|field| PER_FIELD + field.len()).sum()
    }
}
