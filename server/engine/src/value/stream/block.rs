//! A run of entries in one allocation, laid out as Redis lays out a stream's listpacks.
//!
//! `[number of names] [names …] [0]`, the fields of the first entry, which most entries share;
//! then each entry: `[flags] [ms and seq beyond the block's first id] ([number of fields])
//! [fields and values, or values alone] [how many elements that were]`. So an entry whose fields
//! are the usual ones costs its values and some eight bytes, can be walked from both ends, and
//! goes to files as it is. An entry that is removed is only marked: the block goes when its last
//! one does.

use super::element;
use super::id::StreamId;
use crate::value::listpack::Entry;

/// The entry was removed.
const DELETED: u8 = 1;
/// The entry has the block's names.
const SAME_NAMES: u8 = 2;
/// Elements of an entry beside fields and values: flags, ms, seq.
const FIXED_ELEMENTS: i64 = 3;
/// Bytes of a listpack around its elements.
const FRAME_LEN: usize = 7;
const END: u8 = 0xff;

/// A run of entries. Its first id is its key in the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Names and entries.
    bytes: Vec<u8>,
    /// Bytes of the names, their number and their end included.
    names_len: usize,
    live: u32,
    deleted: u32,
}

/// An entry, or what is left of it.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// Its id.
    pub id: StreamId,
    /// Whether it was removed.
    pub deleted: bool,
    /// Where it begins in its block.
    at: usize,
    /// Its fields with their values.
    pub fields: Fields<'a>,
}

/// The fields of an entry with their values, in order.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    left: usize,
    /// The block's names; `None` if fields and values stand in turn.
    names: Option<&'a [u8]>,
    values: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Entry<'a>, Entry<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => element::take(names),
            None => element::take(&mut self.values),
        };
        Some((name?, element::take(&mut self.values)?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

impl Block {
    /// An empty block for entries that have these names.
    fn with_names<'a>(names: impl ExactSizeIterator<Item = &'a [u8]>) -> Self {
        let mut bytes = Vec::new();
        element::push(&mut bytes, Entry::Integer(names.len() as i64));
        names.for_each(|name| element::push_text(&mut bytes, name));
        element::push(&mut bytes, Entry::Integer(0));
        Self { names_len: bytes.len(), bytes, live: 0, deleted: 0 }
    }

    /// A block for an entry of these fields and values, which follows.
    #[must_use]
    pub fn new(fields: &[&[u8]]) -> Self {
        let (pairs, _) = fields.as_chunks::<2>();
        Self::with_names(pairs.iter().map(|pair| pair[0]))
    }

    /// How many entries stand.
    #[must_use]
    pub fn live(&self) -> u64 {
        u64::from(self.live)
    }

    /// How many entries there are, those that were removed included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.live() + u64::from(self.deleted)
    }

    /// Whether no entry was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it takes in Redis, by which Redis begins new ones.
    #[must_use]
    pub fn redis_len(&self) -> usize {
        let counts = [self.live, self.deleted].map(|count| Entry::Integer(count.into()));
        let counts = counts.map(Entry::redis_len);
        FRAME_LEN + counts[0] + counts[1] + self.bytes.len()
    }

    /// Bytes of the allocation.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back spare room: no further entry will come.
    pub fn close(&mut self) {
        self.bytes.shrink_to_fit();
    }

    fn names(&self) -> (usize, &[u8]) {
        let mut rest = &self.bytes[..self.names_len];
        let count = element::take(&mut rest).and_then(Entry::integer);
        (count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0), rest)
    }

    /// Whether these fields are the block's names.
    fn has_names(&self, pairs: &[[&[u8]; 2]]) -> bool {
        let (count, mut names) = self.names();
        let room = &mut itoa::Buffer::new();
        count == pairs.len()
            && pairs.iter().all(|[field, _]| {
                element::take(&mut names).is_some_and(|name| name.text(room) == *field)
            })
    }

    /// Appends an entry whose id is greater than all before; `first` is the block's first id.
    pub fn append(&mut self, first: StreamId, id: StreamId, fields: &[&[u8]]) {
        let (pairs, _) = fields.as_chunks::<2>();
        let flags = if self.has_names(pairs) { SAME_NAMES } else { 0 };
        self.write(flags, id.distance_from(first), pairs.len(), fields.iter().copied());
    }

    /// Writes an entry; with [`SAME_NAMES`] every second text is left out.
    fn write<'a>(
        &mut self,
        flags: u8,
        (ms, seq): (i64, i64),
        count: usize,
        texts: impl Iterator<Item = &'a [u8]>,
    ) {
        let bytes = &mut self.bytes;
        let mut push = |number| element::push(bytes, Entry::Integer(number));
        push(i64::from(flags));
        push(ms);
        push(seq);
        let count = count as i64;
        let mut elements = FIXED_ELEMENTS + count;
        let same_names = flags & SAME_NAMES != 0;
        if !same_names {
            push(count);
            elements += count + 1;
        }
        for (nth, text) in texts.enumerate() {
            if !same_names || nth % 2 == 1 {
                element::push_text(&mut self.bytes, text);
            }
        }
        element::push(&mut self.bytes, Entry::Integer(elements));
        match flags & DELETED {
            0 => self.live += 1,
            _ => self.deleted += 1,
        }
    }

    /// Marks the entry that [`Self::items`] found as removed.
    pub fn delete(&mut self, item: ItemPlace) {
        debug_assert_eq!(self.bytes[item.0] & DELETED, 0, "removed twice");
        // Flags are the smallest of integers, one byte that is its own head.
        self.bytes[item.0] |= DELETED;
        self.live -= 1;
        self.deleted += 1;
    }

    /// The entries in order, from either end, those that were removed included.
    #[must_use]
    pub fn items(&self, first: StreamId) -> Items<'_> {
        Items { block: self, first, from: self.names_len, to: self.bytes.len() }
    }

    /// The entry that begins at `at`, and where it ends.
    fn item_at(&self, first: StreamId, at: usize) -> Option<(Item<'_>, usize)> {
        let mut rest = self.bytes.get(at..)?;
        let mut number = || element::take(&mut rest)?.integer();
        let flags = number()? as u8;
        let id = StreamId::at_distance(first, (number()?, number()?));
        let (count, names, texts) = if flags & SAME_NAMES != 0 {
            let (count, names) = self.names();
            (count, Some(names), count)
        } else {
            let count = usize::try_from(number()?).ok()?;
            (count, None, count.checked_mul(2)?)
        };
        let values = rest;
        // The count of elements at the end is passed over as well.
        for _ in 0..=texts {
            element::take(&mut rest)?;
        }
        let fields = Fields { left: count, names, values };
        let item = Item { id, deleted: flags & DELETED != 0, at, fields };
        Some((item, self.bytes.len() - rest.len()))
    }

    /// Where the entry begins that ends at `end`.
    fn begin_of(&self, end: usize) -> Option<usize> {
        let step = |end: usize| Some(end - element::last_len(&self.bytes[..end])?);
        let mut at = step(end)?;
        let elements = element::decode(&self.bytes[at..])?.0.integer()?;
        for _ in 0..elements {
            at = step(at)?;
        }
        Some(at)
    }

    /// Redis's listpack of these entries.
    #[must_use]
    pub fn to_listpack(&self) -> Vec<u8> {
        let len = self.redis_len();
        let mut out = Vec::with_capacity(len);
        out.extend((len as u32).to_le_bytes());
        out.extend([0; 2]);
        for count in [self.live, self.deleted] {
            element::push(&mut out, Entry::Integer(count.into()));
        }
        out.extend_from_slice(&self.bytes);
        // Two counts; what follows is counted by walking it.
        let mut rest = &self.bytes[..];
        let mut elements = 2usize;
        while element::take(&mut rest).is_some() {
            elements += 1;
        }
        let elements = u16::try_from(elements).unwrap_or(u16::MAX);
        out[4..6].copy_from_slice(&elements.to_le_bytes());
        out.push(END);
        out
    }

    /// The block of a listpack's elements, or nothing if they are no valid one: its ids ascend
    /// from `first`. How many entries there are is counted, whatever the listpack says.
    #[must_use]
    pub fn from_untrusted(first: StreamId, entries: &[Entry<'_>]) -> Option<Self> {
        let [live, deleted, count, rest @ ..] = entries else { return None };
        let count = usize::try_from(count.integer()?).ok()?;
        let (names, rest) = rest.split_at_checked(count)?;
        let (end, mut rest) = rest.split_first()?;
        if end.integer()? != 0 {
            return None;
        }
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        let mut block = Self::with_names(names.iter().map(Vec::as_slice));
        let mut least = Some(first);
        while let [flags, ms, seq, after @ ..] = rest {
            let flags = u8::try_from(flags.integer()?).ok()?;
            if flags & !(DELETED | SAME_NAMES) != 0 {
                return None;
            }
            let distance = (ms.integer()?, seq.integer()?);
            let id = StreamId::at_distance(first, distance);
            if least.is_none_or(|least| id < least) {
                return None;
            }
            least = id.next();
            let same_names = flags & SAME_NAMES != 0;
            let (fields, after) = match after.split_first()? {
                _ if same_names => (count, after),
                (told, after) => (usize::try_from(told.integer()?).ok()?, after),
            };
            let wanted = if same_names { fields } else { fields.checked_mul(2)? };
            let (texts, after) = after.split_at_checked(wanted)?;
            let (elements, after) = after.split_first()?;
            let extra = if same_names { 0 } else { 1 };
            if elements.integer()? != FIXED_ELEMENTS + extra + i64::try_from(wanted).ok()? {
                return None;
            }
            let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
            let texts = texts.iter().map(Vec::as_slice);
            if same_names {
                // Written as every second text, behind a field that is left out.
                let texts = texts.flat_map(|value| [&b""[..], value]);
                block.write(flags, distance, fields, texts);
            } else {
                block.write(flags, distance, fields, texts);
            }
            rest = after;
        }
        live.integer()?;
        deleted.integer()?;
        block.close();
        Some(block)
    }
}

/// Where an entry stands in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemPlace(usize);

impl Item<'_> {
    /// Where it stands, to be removed.
    #[must_use]
    pub fn place(&self) -> ItemPlace {
        ItemPlace(self.at)
    }
}

/// Walks a block from either end.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    block: &'a Block,
    first: StreamId,
    from: usize,
    to: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.from >= self.to {
            return None;
        }
        let (item, end) = self.block.item_at(self.first, self.from)?;
        self.from = end;
        Some(item)
    }
}

impl DoubleEndedIterator for Items<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.from >= self.to {
            return None;
        }
        self.to = self.block.begin_of(self.to)?;
        Some(self.block.item_at(self.first, self.to)?.0)
    }
}
