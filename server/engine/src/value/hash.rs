//! Hashes: fields with values, and optionally with expiries of their own.
//!
//! A small hash is one [`Listpack`] of fields and values in turn; a large one is a [`Table`].
//! Both keep the order of insertion, but for removals from a table, which put the last field
//! in the hole: an order that depends only on the commands that ran. A hash that has ever had
//! an expiring field keeps [`Expiries`] beside its fields. Every look takes the time: an
//! expired field is absent whether or not it still stands.
//!
//! Must never decide when a field is removed: writers call [`Hash::remove_expired`] first.

mod expiries;
mod table;

pub use expiries::Expiries;
pub use table::Table;

use crate::limits::Limits;
use crate::time::UnixMillis;
use crate::value::listpack::{Entry, LISTPACK_ENTRIES_MAX, Listpack, Packed};

/// Fields with values.
#[derive(Debug, Clone)]
pub struct Hash(Form);

/// A small hash without expiries stands in the object itself; all else is behind a pointer, so
/// that the one does not pay for the other.
#[derive(Debug, Clone)]
enum Form {
    Compact(Listpack),
    Rich(Box<Rich>),
}

#[derive(Debug, Clone, Default)]
struct Rich {
    fields: Fields,
    expiries: Expiries,
}

#[derive(Debug, Clone)]
enum Fields {
    Compact(Listpack),
    Table(Table),
}

impl Default for Fields {
    fn default() -> Self {
        Self::Compact(Listpack::new())
    }
}

/// What setting a field did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldSet {
    /// It was not there.
    Created,
    /// It had another value, or the same.
    Replaced,
}

/// What becomes of a field's expiry when its value is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldExpiry {
    /// HSET: it goes.
    Dropped,
    /// HINCRBY: it stays.
    Kept,
}

/// Thresholds of the compact encoding.
#[derive(Debug, Clone, Copy)]
pub struct HashLimits {
    /// Most fields.
    pub entries: usize,
    /// Longest field or value, bytes.
    pub value_len: usize,
}

impl From<&Limits> for HashLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            entries: usize::try_from(limits.hash_max_listpack_entries())
                .map_or(0, |entries| entries.min(LISTPACK_ENTRIES_MAX / 2)),
            value_len: usize::try_from(limits.hash_max_listpack_value()).unwrap_or(0),
        }
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self(Form::Compact(Listpack::new()))
    }
}

enum FieldsRef<'a> {
    Compact(&'a Listpack),
    Table(&'a Table),
}

impl Hash {
    #[inline]
    fn fields(&self) -> FieldsRef<'_> {
        match &self.0 {
            Form::Compact(pack) => FieldsRef::Compact(pack),
            Form::Rich(rich) => match &rich.fields {
                Fields::Compact(pack) => FieldsRef::Compact(pack),
                Fields::Table(table) => FieldsRef::Table(table),
            },
        }
    }

    /// A hash in the small encoding, of fields and values in turn.
    #[must_use]
    pub fn compact(pack: Listpack) -> Self {
        Self(Form::Compact(pack))
    }

    /// A hash in the large encoding.
    #[must_use]
    pub fn large(table: Table) -> Self {
        let fields = Fields::Table(table);
        Self(Form::Rich(Box::new(Rich { fields, expiries: Expiries::default() })))
    }

    /// The expiries of its fields, if any has one.
    #[inline]
    #[must_use]
    pub fn expiries(&self) -> Option<&Expiries> {
        match &self.0 {
            Form::Compact(_) => None,
            Form::Rich(rich) => (!rich.expiries.is_empty()).then_some(&rich.expiries),
        }
    }

    fn rich(&mut self) -> &mut Rich {
        if let Form::Compact(pack) = &mut self.0 {
            let fields = Fields::Compact(std::mem::take(pack));
            self.0 = Form::Rich(Box::new(Rich { fields, expiries: Expiries::default() }));
        }
        match &mut self.0 {
            Form::Rich(rich) => rich,
            Form::Compact(_) => unreachable!("Invariant: the form was just changed"),
        }
    }

    /// The name OBJECT ENCODING gives; that of a small hash with expiries is Redis 7.4's.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self.fields() {
            FieldsRef::Table(_) => "hashtable",
            FieldsRef::Compact(_) if self.expiries().is_some() => "listpackex",
            FieldsRef::Compact(_) => "listpack",
        }
    }

    /// Number of fields, those included that have expired but still stand.
    #[inline]
    #[must_use]
    pub fn stored_len(&self) -> usize {
        match self.fields() {
            FieldsRef::Compact(pack) => pack.len() / 2,
            FieldsRef::Table(table) => table.len(),
        }
    }

    /// Number of live fields.
    #[inline]
    #[must_use]
    pub fn len(&self, now: UnixMillis) -> usize {
        let expired = self.expiries().map_or(0, |expiries| expiries.due_count(now));
        self.stored_len() - expired
    }

    /// Whether no field is live.
    #[must_use]
    pub fn is_empty(&self, now: UnixMillis) -> bool {
        self.len(now) == 0
    }

    /// When a live field expires; `None` also when there is no such field.
    #[must_use]
    pub fn field_expiry(&self, field: &[u8]) -> Option<UnixMillis> {
        self.expiries()?.of(field)
    }

    #[inline]
    fn is_field_expired(&self, field: &[u8], now: UnixMillis) -> bool {
        self.expiries().is_some_and(|expiries| expiries.of(field).is_some_and(|at| at <= now))
    }

    /// The value of a live field.
    #[inline]
    #[must_use]
    pub fn get(&self, field: &[u8], now: UnixMillis) -> Option<Entry<'_>> {
        if self.is_field_expired(field, now) {
            return None;
        }
        match self.fields() {
            FieldsRef::Compact(pack) => {
                let index = pack.find(&Packed::new(field), 0, 2)?;
                pack.get(index + 1)
            }
            FieldsRef::Table(table) => table.get(field).map(Entry::Bytes),
        }
    }

    /// Calls `found` with every live field and its value, in order.
    pub fn each(&self, now: UnixMillis, mut found: impl FnMut(Entry<'_>, Entry<'_>)) {
        let expired = self.expiries().filter(|expiries| expiries.due_count(now) > 0);
        let is_live = |field: Entry<'_>| match expired {
            None => true,
            Some(expiries) => {
                expiries.of(field.text(&mut itoa::Buffer::new())).is_none_or(|at| at > now)
            }
        };
        self.each_stored(|field, value| {
            if is_live(field) {
                found(field, value);
            }
        });
    }

    /// Whether it is one listpack: then a look by place walks it.
    #[must_use]
    pub fn is_compact(&self) -> bool {
        matches!(self.fields(), FieldsRef::Compact(_))
    }

    /// Calls `found` with every field that stands, expired or not, in the order of places.
    pub fn each_stored<'h>(&'h self, mut found: impl FnMut(Entry<'h>, Entry<'h>)) {
        match self.fields() {
            FieldsRef::Compact(pack) => {
                let mut entries = pack.iter();
                while let (Some(field), Some(value)) = (entries.next(), entries.next()) {
                    found(field, value);
                }
            }
            FieldsRef::Table(table) => table
                .iter()
                .for_each(|(field, value)| found(Entry::Bytes(field), Entry::Bytes(value))),
        }
    }

    /// Visits about `count` fields from `cursor` on and returns the next cursor, 0 at the end.
    ///
    /// A cursor is the number of places not yet visited, for the walk goes from the last place
    /// to the first: a removal moves the last field to an earlier place, thus never from where
    /// the walk has yet to come to where it has been. A compact hash is visited whole.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        now: UnixMillis,
        mut found: impl FnMut(Entry<'_>, Entry<'_>),
    ) -> u64 {
        let FieldsRef::Table(table) = self.fields() else {
            self.each(now, found);
            return 0;
        };
        let end = match usize::try_from(cursor) {
            Ok(0) | Err(_) => table.len(),
            Ok(places) => places.min(table.len()),
        };
        let start = end.saturating_sub(count.max(1));
        for index in (start..end).rev() {
            if let Some((field, value)) = table.at(index)
                && !self.is_field_expired(field, now)
            {
                found(Entry::Bytes(field), Entry::Bytes(value));
            }
        }
        start as u64
    }

    /// The field and value at a place below [`Hash::stored_len`], if it is live.
    #[must_use]
    pub fn at(&self, place: usize, now: UnixMillis) -> Option<(Entry<'_>, Entry<'_>)> {
        let (field, value) = match self.fields() {
            FieldsRef::Compact(pack) => {
                let mut entries = pack.iter_from(place * 2);
                (entries.next()?, entries.next()?)
            }
            FieldsRef::Table(table) => {
                let (field, value) = table.at(place)?;
                (Entry::Bytes(field), Entry::Bytes(value))
            }
        };
        let live = self.expiries().is_none()
            || !self.is_field_expired(field.text(&mut itoa::Buffer::new()), now);
        live.then_some((field, value))
    }

    /// Prepares for setting these fields and values (in turn): goes over to a table at once if
    /// one of them is too long or there are too many, as Redis does before it sets the first.
    pub fn prepare(&mut self, pairs: &[&[u8]], limits: HashLimits) {
        if let FieldsRef::Table(_) = self.fields() {
            return;
        }
        let mut len = 0usize;
        let mut fits = pairs.len() / 2 <= limits.entries;
        for bytes in pairs {
            fits &= bytes.len() <= limits.value_len;
            len += bytes.len() + 9;
        }
        let pack = match &mut self.0 {
            Form::Compact(pack) => pack,
            Form::Rich(rich) => match &mut rich.fields {
                Fields::Compact(pack) => pack,
                Fields::Table(_) => return,
            },
        };
        if !fits || !pack.has_room_for(len) {
            self.convert_to_table(pairs.len() / 2);
        } else if pack.is_empty() {
            let exact = pairs.iter().map(|bytes| Packed::new(bytes).packed_len()).sum();
            *pack = Listpack::with_capacity(exact);
        }
    }

    #[cold]
    fn convert_to_table(&mut self, more: usize) {
        let rich = self.rich();
        if let Fields::Compact(pack) = &rich.fields {
            let mut table = Table::with_capacity(pack.len() / 2 + more);
            let mut entries = pack.iter();
            while let (Some(field), Some(value)) = (entries.next(), entries.next()) {
                let (mut field_room, mut value_room) = (itoa::Buffer::new(), itoa::Buffer::new());
                table.insert(field.text(&mut field_room), value.text(&mut value_room));
            }
            rich.fields = Fields::Table(table);
        }
    }

    /// Sets a field; [`Hash::remove_expired`] must have been called.
    pub fn set(
        &mut self,
        field: &[u8],
        value: &[u8],
        expiry: FieldExpiry,
        limits: HashLimits,
    ) -> FieldSet {
        if let Form::Rich(rich) = &mut self.0
            && expiry == FieldExpiry::Dropped
        {
            rich.expiries.set(field, None);
        }
        let pack = match &mut self.0 {
            Form::Compact(pack) => pack,
            Form::Rich(rich) => match &mut rich.fields {
                Fields::Compact(pack) => pack,
                Fields::Table(table) => return table.insert(field, value),
            },
        };
        if field.len() > limits.value_len
            || value.len() > limits.value_len
            || !pack.has_room_for(field.len() + value.len() + 18)
        {
            self.convert_to_table(1);
            return self.set(field, value, expiry, limits);
        }
        let field = Packed::new(field);
        if let Some(index) = pack.find(&field, 0, 2) {
            pack.replace(index + 1, value);
            return FieldSet::Replaced;
        }
        let value = Packed::new(value);
        pack.reserve(field.packed_len() + value.packed_len());
        pack.push_back_packed(&field);
        pack.push_back_packed(&value);
        if pack.len() / 2 > limits.entries {
            self.convert_to_table(0);
        }
        FieldSet::Created
    }

    /// Removes a field with its expiry; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if let Form::Rich(rich) = &mut self.0 {
            rich.expiries.set(field, None);
        }
        let pack = match &mut self.0 {
            Form::Compact(pack) => pack,
            Form::Rich(rich) => match &mut rich.fields {
                Fields::Compact(pack) => pack,
                Fields::Table(table) => return table.remove(field),
            },
        };
        match pack.find(&Packed::new(field), 0, 2) {
            Some(index) => {
                pack.remove_range(index, 2);
                true
            }
            None => false,
        }
    }

    /// Removes the fields that have expired at `now`; how many there were.
    #[inline]
    pub fn remove_expired(&mut self, now: UnixMillis) -> usize {
        if self.expiries().is_none_or(|expiries| !expiries.is_due(now)) {
            return 0;
        }
        let mut removed = 0;
        while let Some(field) = self.rich().expiries.first_due(now) {
            self.remove(&field);
            removed += 1;
        }
        removed
    }

    /// Sets or clears the expiry of a field, which must be there.
    pub fn set_field_expiry(&mut self, field: &[u8], at: Option<UnixMillis>) {
        if at.is_none() && self.expiries().is_none() {
            return;
        }
        self.rich().expiries.set(field, at);
    }

    /// The key's own expiry, when the record's is `in_record`. The two differ while every field
    /// expires: then the record's is that of the last field, so that a hash without live
    /// fields is an expired key, everywhere and without a look inside.
    #[must_use]
    pub fn own_expiry(&self, in_record: Option<UnixMillis>) -> Option<UnixMillis> {
        match &self.0 {
            Form::Compact(_) => in_record,
            Form::Rich(rich) => rich.expiries.own_expiry(in_record),
        }
    }

    /// Takes the key's own expiry and returns the one its record must bear. To be called
    /// whenever either the key's or any field's expiry has changed, or fields came or went.
    #[must_use]
    pub fn settle_expiry(&mut self, own: Option<UnixMillis>) -> Option<UnixMillis> {
        let stored = self.stored_len();
        match &mut self.0 {
            Form::Compact(_) => own,
            Form::Rich(rich) => rich.expiries.settle(own, stored),
        }
    }

    /// Whether the record's expiry may differ from the key's own.
    #[inline]
    #[must_use]
    pub fn may_shadow_expiry(&self) -> bool {
        matches!(&self.0, Form::Rich(rich) if rich.expiries.is_in_use())
    }

    /// Feeds the content to `hasher`; equal content feeds equal bytes whatever the encoding
    /// and the order.
    pub fn digest(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::{BuildHasher, Hasher};
        let mut sum = 0u64;
        self.each(UnixMillis(i64::MIN), |field, value| {
            let mut pair = foldhash::fast::FixedState::default().build_hasher();
            let mut room = itoa::Buffer::new();
            let field = field.text(&mut room);
            pair.write_usize(field.len());
            pair.write(field);
            pair.write(value.text(&mut itoa::Buffer::new()));
            pair.write_i64(self.field_expiry(field).map_or(-1, |at| at.0));
            sum = sum.wrapping_add(pair.finish());
        });
        hasher.write_usize(self.stored_len());
        hasher.write_u64(sum);
    }

    /// About how many steps freeing it takes.
    #[must_use]
    pub fn free_effort(&self) -> usize {
        let fields = match self.fields() {
            FieldsRef::Compact(_) => 1,
            FieldsRef::Table(table) => table.len(),
        };
        fields + self.expiries().map_or(0, Expiries::len)
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        let fields = match self.fields() {
            FieldsRef::Compact(pack) => pack.memory_len(),
            FieldsRef::Table(table) => table.memory_len(),
        };
        match &self.0 {
            Form::Compact(_) => fields,
            Form::Rich(rich) => fields + size_of::<Rich>() + rich.expiries.memory_len(),
        }
    }
}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        let always = UnixMillis(i64::MIN);
        let mut equal = self.stored_len() == other.stored_len();
        self.each(always, |field, value| {
            let (mut room, mut value_room) = (itoa::Buffer::new(), itoa::Buffer::new());
            let (field, value) = (field.text(&mut room), value.text(&mut value_room));
            equal &= other
                .get(field, always)
                .is_some_and(|found| found.text(&mut itoa::Buffer::new()) == value)
                && self.field_expiry(field) == other.field_expiry(field);
        });
        equal
    }
}

#[cfg(test)]
mod tests;
