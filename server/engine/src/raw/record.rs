//! A key with its value in one allocation:
//! `[header | object? | expiry? | key length? | key | value]`.
//!
//! The table of a shard then holds one pointer per key, and a look-up touches one place in
//! memory for the comparison and the value alike. Short strings and integers stand in the
//! record as bytes; everything else is an [`Object`], which stands behind the header, where it
//! is aligned, and points to what it holds.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::time::UnixMillis;
use crate::value::Object;

/// Longest string that stands in the record; a longer one is shared and boxed, so that GET can
/// hand it out without a copy under the lock.
pub const INLINE_VALUE_LEN_MAX: usize = 4096;

/// Every record begins with this.
#[repr(C)]
struct Header {
    /// `version << 16 | kind << 8 | flags`.
    meta: u64,
    /// When it was last used, in the unit of the eviction policy; the only field that readers write.
    access: AtomicU32,
    /// Length of the key, unless `LONG_KEY` is set.
    key_len: u16,
    /// Length of the value's bytes in the record.
    value_len: u16,
}

const HEADER_LEN: usize = size_of::<Header>();
const ALIGN: usize = align_of::<Header>();
const OBJECT_LEN: usize = size_of::<Object>();

const _: () = {
    // The object stands right behind the header, and words stand behind the object.
    assert!(align_of::<Object>() <= ALIGN && HEADER_LEN.is_multiple_of(ALIGN));
    assert!(OBJECT_LEN.is_multiple_of(ALIGN));
};

const KIND_INTEGER: u8 = 0;
const KIND_STRING: u8 = 1;
const KIND_OBJECT: u8 = 2;

/// Eight bytes of expiry follow the header.
const HAS_EXPIRY: u8 = 1;
/// Eight bytes of key length follow the header and the expiry.
const LONG_KEY: u8 = 2;
/// The string was made by APPEND or SETRANGE: OBJECT ENCODING says `raw` whatever its length.
const RAW_STRING: u8 = 4;

/// Versions are kept in 48 bits: at five million writes a second they repeat after 1.8 years,
/// and a WATCH would have to meet the very same one.
const VERSION_BITS: u32 = 48;

/// What a record holds.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A string that is the decimal text of this number.
    Integer(i64),
    /// A string of at most [`INLINE_VALUE_LEN_MAX`] bytes.
    String(&'a [u8]),
    /// A longer string, or a collection.
    Object(&'a Object),
}

/// A string to store, before its place is chosen.
#[derive(Debug, Clone, Copy)]
pub enum StringValue<'a> {
    /// Becomes an integer if it is the decimal text of one.
    Bytes(&'a [u8]),
    /// A number.
    Integer(i64),
    /// Bytes that stay text even if they read as a number (INCRBYFLOAT's sums).
    Text(&'a [u8]),
    /// Bytes whose encoding OBJECT ENCODING calls `raw`.
    Raw(&'a [u8]),
}

/// A key and its value; owns its allocation.
pub struct Record(NonNull<Header>);

// SAFETY: a record owns its memory, and what it holds (bytes, `Object`) is `Send + Sync`; the
// one field written through a shared reference is atomic.
unsafe impl Send for Record {}
// SAFETY: as above.
unsafe impl Sync for Record {}

const _: () = {
    const fn sendable<T: Send + Sync>() {}
    sendable::<Object>();
};

impl Record {
    /// A record that holds a string.
    #[must_use]
    pub fn string(key: &[u8], value: StringValue<'_>, expires_at: Option<UnixMillis>) -> Self {
        match value {
            StringValue::Integer(number) => Self::integer(key, number, expires_at),
            StringValue::Bytes(bytes) => match crate::value::integer_text(bytes) {
                Some(number) => Self::integer(key, number, expires_at),
                None => Self::bytes(key, bytes, 0, expires_at),
            },
            StringValue::Text(bytes) => Self::bytes(key, bytes, 0, expires_at),
            StringValue::Raw(bytes) => Self::bytes(key, bytes, RAW_STRING, expires_at),
        }
    }

    fn bytes(key: &[u8], bytes: &[u8], flags: u8, expires_at: Option<UnixMillis>) -> Self {
        if bytes.len() <= INLINE_VALUE_LEN_MAX {
            Self::with_parts(key, KIND_STRING, flags, bytes, expires_at)
        } else {
            Self::object(key, Object::String(crate::value::offered::kept(bytes)), expires_at)
        }
    }

    fn integer(key: &[u8], number: i64, expires_at: Option<UnixMillis>) -> Self {
        Self::with_parts(key, KIND_INTEGER, 0, &number.to_ne_bytes(), expires_at)
    }

    /// A record that holds an object.
    #[must_use]
    pub fn object(key: &[u8], object: Object, expires_at: Option<UnixMillis>) -> Self {
        let record = Self::with_parts(key, KIND_OBJECT, 0, &[], expires_at);
        // SAFETY: a record of this kind has room for an object at this place, aligned, and
        // nothing stands there yet. Nothing that could panic lies between the two lines.
        unsafe { record.object_pointer().write(object) };
        record
    }

    /// A record of these parts; of the kind `KIND_OBJECT` the caller must then write the object.
    fn with_parts(
        key: &[u8],
        kind: u8,
        flags: u8,
        value: &[u8],
        expires_at: Option<UnixMillis>,
    ) -> Self {
        let mut flags = flags & RAW_STRING;
        if expires_at.is_some() {
            flags |= HAS_EXPIRY;
        }
        if key.len() > usize::from(u16::MAX) {
            flags |= LONG_KEY;
        }
        let layout = layout(kind, flags, key.len(), value.len());
        // SAFETY: the layout is never empty, for it holds the header.
        let memory = unsafe { alloc(layout) };
        let Some(header) = NonNull::new(memory.cast::<Header>()) else {
            handle_alloc_error(layout)
        };
        // SAFETY: `layout` reserved room for the header, the object of that kind, the optional
        // words, the key and the value in this order; the writes below stay inside and `memory` is ours alone. Only
        // the header needs alignment, and the allocation has it.
        unsafe {
            header.write(Header {
                meta: u64::from(kind) << 8 | u64::from(flags),
                access: AtomicU32::new(0),
                key_len: u16::try_from(key.len()).unwrap_or(0),
                value_len: value.len() as u16,
            });
            let mut at = memory.add(fixed_len(kind));
            if let Some(UnixMillis(ms)) = expires_at {
                at.cast::<i64>().write_unaligned(ms);
                at = at.add(8);
            }
            if flags & LONG_KEY != 0 {
                at.cast::<u64>().write_unaligned(key.len() as u64);
                at = at.add(8);
            }
            at.copy_from_nonoverlapping(key.as_ptr(), key.len());
            at.add(key.len()).copy_from_nonoverlapping(value.as_ptr(), value.len());
        }
        Self(header)
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: `self.0` points to an initialised header for as long as `self` lives.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as for `header`, and `&mut self` makes the access exclusive.
        unsafe { self.0.as_mut() }
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.header().meta as u8
    }

    #[inline]
    fn kind(&self) -> u8 {
        (self.header().meta >> 8) as u8
    }

    /// The first byte of the record, for prefetching.
    pub(super) fn address(&self) -> *const u8 {
        self.0.as_ptr().cast_const().cast()
    }

    /// Distance from the record's first byte to its key, and the key's length.
    #[inline]
    fn key_place(&self) -> (usize, usize) {
        let flags = self.flags();
        let mut at = fixed_len(self.kind()) + if flags & HAS_EXPIRY != 0 { 8 } else { 0 };
        if flags & LONG_KEY != 0 {
            // SAFETY: the flag says that the length stands here.
            let len = unsafe { self.address().add(at).cast::<u64>().read_unaligned() };
            at += 8;
            return (at, len as usize);
        }
        (at, usize::from(self.header().key_len))
    }

    /// The key.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        let (at, len) = self.key_place();
        // SAFETY: `with_parts` wrote `len` key bytes at this distance, and nothing changes them.
        unsafe { std::slice::from_raw_parts(self.address().add(at), len) }
    }

    #[inline]
    fn value_bytes(&self) -> &[u8] {
        let (at, len) = self.key_place();
        // SAFETY: the value's bytes follow the key's, as many as the header says.
        unsafe {
            std::slice::from_raw_parts(
                self.address().add(at + len),
                usize::from(self.header().value_len),
            )
        }
    }

    fn value_bytes_mut(&mut self) -> &mut [u8] {
        let (at, len) = self.key_place();
        let value_len = usize::from(self.header().value_len);
        // SAFETY: as for `value_bytes`, and `&mut self` makes the access exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(self.0.as_ptr().cast::<u8>().add(at + len), value_len)
        }
    }

    #[inline]
    fn word(&self) -> [u8; 8] {
        let mut word = [0; 8];
        word.copy_from_slice(self.value_bytes());
        word
    }

    /// Where the object of a record of that kind stands.
    #[inline]
    fn object_pointer(&self) -> *mut Object {
        debug_assert_eq!(self.kind(), KIND_OBJECT);
        // SAFETY: `with_parts` reserved the room behind the header of a record of this kind.
        unsafe { self.0.as_ptr().cast::<u8>().add(HEADER_LEN).cast() }
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self.kind() {
            KIND_INTEGER => Value::Integer(i64::from_ne_bytes(self.word())),
            KIND_STRING => Value::String(self.value_bytes()),
            // SAFETY: a record of this kind holds an initialised object, which lives as long as
            // the record, and `&self` forbids exclusive access meanwhile.
            _ => Value::Object(unsafe { &*self.object_pointer() }),
        }
    }

    /// The object, if that is what the record holds.
    #[must_use]
    pub fn object_mut(&mut self) -> Option<&mut Object> {
        if self.kind() != KIND_OBJECT {
            return None;
        }
        // SAFETY: as for `value`, and `&mut self` makes the access exclusive.
        Some(unsafe { &mut *self.object_pointer() })
    }

    /// The object itself, taken out of the record, if that is what it holds.
    #[must_use]
    pub fn into_object(self) -> Option<Box<Object>> {
        if self.kind() != KIND_OBJECT {
            return None;
        }
        // SAFETY: a record of this kind holds an initialised object; the record is freed right
        // after without dropping it, so this is its only owner.
        let object = unsafe { self.object_pointer().read() };
        self.free_memory();
        Some(Box::new(object))
    }

    /// When it expires.
    #[inline]
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        if self.flags() & HAS_EXPIRY == 0 {
            return None;
        }
        let at = fixed_len(self.kind());
        // SAFETY: the flag says that the expiry stands right behind the fixed part.
        Some(UnixMillis(unsafe { self.address().add(at).cast::<i64>().read_unaligned() }))
    }

    /// The key's own expiry, which TTL tells and PERSIST removes: that of the record, but for a
    /// hash whose fields all expire, which lends its record the last field's.
    #[inline]
    #[must_use]
    pub fn own_expiry(&self) -> Option<UnixMillis> {
        match self.value() {
            Value::Object(Object::Hash(hash)) => hash.own_expiry(self.expires_at()),
            _ => self.expires_at(),
        }
    }

    /// Whether it has expired at `now`.
    #[inline]
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// Changes the expiry; moves the record when it gains or loses one.
    pub fn set_expiry(&mut self, expires_at: Option<UnixMillis>) {
        match (self.flags() & HAS_EXPIRY != 0, expires_at) {
            (false, None) => {}
            // SAFETY: the flag says that the expiry stands right behind the fixed part; `&mut
            // self` makes the write exclusive.
            (true, Some(UnixMillis(ms))) => unsafe {
                let at = fixed_len(self.kind());
                self.0.as_ptr().cast::<u8>().add(at).cast::<i64>().write_unaligned(ms);
            },
            _ => self.rebuild(None, expires_at),
        }
    }

    /// Gives the record another key.
    pub fn set_key(&mut self, key: &[u8]) {
        let expires_at = self.expires_at();
        self.rebuild(Some(key), expires_at);
    }

    /// A deep copy under a key, version and use included.
    #[must_use]
    pub fn copy_under(&self, key: &[u8]) -> Self {
        let expires_at = self.expires_at();
        let mut copy = match self.value() {
            Value::Object(object) => Self::object(key, object.clone(), expires_at),
            Value::Integer(_) | Value::String(_) => {
                Self::with_parts(key, self.kind(), self.flags(), self.value_bytes(), expires_at)
            }
        };
        copy.set_version(self.version());
        copy.touch(self.access());
        copy
    }

    /// Moves the value into a new allocation.
    fn rebuild(&mut self, key: Option<&[u8]>, expires_at: Option<UnixMillis>) {
        let mut next = Self::with_parts(
            key.unwrap_or_else(|| self.key()),
            self.kind(),
            self.flags(),
            self.value_bytes(),
            expires_at,
        );
        next.set_version(self.version());
        next.header().access.store(self.access(), Ordering::Relaxed);
        if self.kind() == KIND_OBJECT {
            // SAFETY: both records have room for an object; that of `next` is uninitialised, and
            // the old record is freed below without dropping the one it held. Nothing that
            // could panic lies between.
            unsafe { next.object_pointer().copy_from_nonoverlapping(self.object_pointer(), 1) };
        }
        let old = std::mem::replace(self, next);
        // What the value's bytes or the object own has moved to the new record.
        old.free_memory();
    }

    /// The version of its last change.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.header().meta >> (64 - VERSION_BITS)
    }

    /// Sets the version; its upper 16 bits are dropped.
    #[inline]
    pub fn set_version(&mut self, version: u64) {
        let header = self.header_mut();
        header.meta = header.meta & 0xffff | version << (64 - VERSION_BITS);
    }

    /// When it was last used, in the eviction policy's unit.
    #[inline]
    #[must_use]
    pub fn access(&self) -> u32 {
        self.header().access.load(Ordering::Relaxed)
    }

    /// Notes a use; a store only when the value differs, so that readers of a hot key share its
    /// cache line.
    #[inline]
    pub fn touch(&self, access: u32) {
        let place = &self.header().access;
        if place.load(Ordering::Relaxed) != access {
            place.store(access, Ordering::Relaxed);
        }
    }

    /// Writes a string over the one that is there, if it fits to the byte; the expiry stays.
    #[inline]
    pub fn overwrite(&mut self, value: StringValue<'_>) -> bool {
        match value {
            StringValue::Integer(number) => self.overwrite_integer(number),
            StringValue::Bytes(bytes) => match crate::value::integer_text(bytes) {
                Some(number) => self.overwrite_integer(number),
                None => self.overwrite_bytes(bytes, 0),
            },
            StringValue::Text(bytes) => self.overwrite_bytes(bytes, 0),
            StringValue::Raw(bytes) => self.overwrite_bytes(bytes, RAW_STRING),
        }
    }

    fn overwrite_integer(&mut self, number: i64) -> bool {
        let fits = self.kind() == KIND_INTEGER;
        if fits {
            self.value_bytes_mut().copy_from_slice(&number.to_ne_bytes());
        }
        fits
    }

    fn overwrite_bytes(&mut self, bytes: &[u8], flags: u8) -> bool {
        let fits = self.kind() == KIND_STRING
            && usize::from(self.header().value_len) == bytes.len()
            && self.flags() & RAW_STRING == flags;
        if fits {
            self.value_bytes_mut().copy_from_slice(bytes);
        }
        fits
    }

    /// The bytes of a string in the record, to change in place.
    #[must_use]
    pub fn string_mut(&mut self) -> Option<&mut [u8]> {
        (self.kind() == KIND_STRING).then(|| self.value_bytes_mut())
    }

    /// Marks a string in the record as `raw`, what it is in Redis once it was changed in place.
    pub fn mark_raw(&mut self) {
        self.header_mut().meta |= u64::from(RAW_STRING);
    }

    /// Whether OBJECT ENCODING says `raw` of a string in the record whatever its length.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.flags() & RAW_STRING != 0
    }

    /// About how many steps freeing it takes.
    #[must_use]
    pub fn free_effort(&self) -> usize {
        match self.value() {
            Value::Object(object) => object.free_effort(),
            _ => 0,
        }
    }

    /// Bytes of the allocation; what an object points to is not among them.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.layout().size()
    }

    fn layout(&self) -> Layout {
        let (_, key_len) = self.key_place();
        layout(self.kind(), self.flags(), key_len, usize::from(self.header().value_len))
    }

    /// Frees the record's own allocation and forgets the value.
    fn free_memory(self) {
        let layout = self.layout();
        let memory = self.0.as_ptr().cast::<u8>();
        std::mem::forget(self);
        // SAFETY: `memory` was allocated by `with_parts` with this same layout, for neither the
        // lengths nor the two flags it derives from change in place.
        unsafe { dealloc(memory, layout) }
    }
}

/// Bytes before the expiry: the header, and the object of a record that holds one.
#[inline]
const fn fixed_len(kind: u8) -> usize {
    if kind == KIND_OBJECT { HEADER_LEN + OBJECT_LEN } else { HEADER_LEN }
}

fn layout(kind: u8, flags: u8, key_len: usize, value_len: usize) -> Layout {
    let words = usize::from(flags & HAS_EXPIRY != 0) + usize::from(flags & LONG_KEY != 0);
    let size = fixed_len(kind) + 8 * words + key_len + value_len;
    match Layout::from_size_align(size, ALIGN) {
        Ok(layout) => layout,
        // A key is bounded by `proto-max-bulk-len`, far below what a layout can hold.
        Err(_) => panic!("Invariant: a record of {size} bytes is addressable"),
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.kind() == KIND_OBJECT {
            // SAFETY: a record of this kind holds an initialised object, and is going away;
            // nobody else can drop it.
            unsafe { self.object_pointer().drop_in_place() };
        }
        let layout = self.layout();
        // SAFETY: as in `free_memory`.
        unsafe { dealloc(self.0.as_ptr().cast(), layout) }
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key().escape_ascii().to_string())
            .field("expires_at", &self.expires_at())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Record {}

impl std::hash::Hash for Record {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Option<UnixMillis> = Some(UnixMillis(1_700_000_000_123));

    #[test]
    fn short_strings_and_integers_stand_in_the_record() {
        let record = Record::string(b"k", StringValue::Bytes(b"hello"), None);
        assert_eq!(record.key(), b"k");
        assert!(matches!(record.value(), Value::String(b"hello")));
        assert_eq!(record.memory_len(), 16 + 1 + 5);
        let record = Record::string(b"k", StringValue::Bytes(b"-42"), AT);
        assert!(matches!(record.value(), Value::Integer(-42)));
        assert_eq!(record.expires_at(), AT);
    }

    #[test]
    fn long_keys_and_long_strings_keep_their_bytes() {
        let key = vec![7; 70_000];
        let value = vec![9; INLINE_VALUE_LEN_MAX + 1];
        let mut record = Record::string(&key, StringValue::Bytes(&value), AT);
        assert_eq!(record.key(), key);
        let Value::Object(Object::String(bytes)) = record.value() else { panic!() };
        assert_eq!(**bytes, value);
        record.set_expiry(None);
        record.set_key(b"short");
        assert_eq!((record.key(), record.expires_at()), (&b"short"[..], None));
        let Value::Object(Object::String(bytes)) = record.value() else { panic!() };
        assert_eq!(**bytes, value);
        assert!(record.into_object().is_some());
    }

    #[test]
    fn versions_and_uses_survive_a_move() {
        let mut record = Record::string(b"k", StringValue::Bytes(b"v"), None);
        record.set_version(0xffff_1234_5678_9abc);
        record.touch(77);
        record.set_expiry(AT);
        assert_eq!((record.version(), record.access()), (0x1234_5678_9abc, 77));
        assert!(matches!(record.value(), Value::String(b"v")));
    }

    #[test]
    fn overwriting_needs_the_same_length_and_kind() {
        let mut record = Record::string(b"k", StringValue::Bytes(b"abc"), AT);
        assert!(record.overwrite(StringValue::Bytes(b"xyz")));
        assert!(!record.overwrite(StringValue::Bytes(b"wxyz")));
        assert!(!record.overwrite(StringValue::Integer(5)));
        assert!(matches!(record.value(), Value::String(b"xyz")));
        assert_eq!(record.expires_at(), AT);
    }
}
