//! Replies, independent of the wire: what a handler answers.
//!
//! A handler returns a [`Reply`]; only the server's `resp` room knows how RESP2 and RESP3
//! spell it. Variants that RESP2 lacks (maps, sets, doubles) are kept apart here so that the
//! encoder, the Lua bridge and the deduplication table each choose their own spelling.

use std::borrow::Cow;

use crate::error::CommandError;

/// How many bytes a [`Blob`] holds without an allocation.
pub const BLOB_INLINE_MAX: usize = 22;

/// What a handler returns: a reply, or an error that changed nothing.
pub type CommandResult = Result<Reply, CommandError>;

/// One reply of a command.
///
/// The comments name the RESP3 spelling first and, where it differs, the RESP2 one.
/// Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// `+OK`
    Ok,
    /// `+text`; never contains CR or LF.
    Simple(Cow<'static, str>),
    /// `_`, in RESP2 the null bulk `$-1`.
    Nil,
    /// `_`, in RESP2 the null array `*-1`.
    NilArray,
    /// `:n`
    Integer(i64),
    /// `,n`, in RESP2 a bulk with the shortest text that reads back as the same number.
    Double(f64),
    /// `#t` / `#f`, in RESP2 `:1` / `:0`.
    Bool(bool),
    /// `$len`
    Bulk(Blob),
    /// `=len` with the format `txt`, in RESP2 a bulk.
    Verbatim(Blob),
    /// `(digits`, in RESP2 a bulk.
    BigNumber(Blob),
    /// `,text`, in RESP2 a bulk: a number with the decimals it is to have.
    Decimal(Blob),
    /// `*n`
    Array(Vec<Reply>),
    /// `*n` of bulks, packed in one buffer: the form of long replies (LRANGE, MGET).
    Bulks(BulkList),
    /// `%n`, in RESP2 a flat array of `2n`.
    Map(Vec<(Reply, Reply)>),
    /// `%n` of bulk field and bulk value packed in one buffer (HGETALL), in RESP2 a flat array.
    BulkMap(BulkList),
    /// `~n`, in RESP2 an array.
    Set(Vec<Reply>),
    /// `~n` of bulks packed in one buffer (SMEMBERS), in RESP2 an array.
    BulkSet(BulkList),
    /// An array of two-element arrays, in RESP2 one flat array (ZRANGE WITHSCORES).
    Pairs(Vec<(Reply, Reply)>),
    /// `%n`, in RESP2 an array of two-element arrays (XREAD).
    PairMap(Vec<(Reply, Reply)>),
    /// `>n`, in RESP2 an array: a message outside the request-reply order.
    Push(Vec<Reply>),
    /// `%n` with these names as fields, in RESP2 an array of the values alone.
    Record(Vec<(&'static str, Reply)>),
    /// `-text`: an error inside a reply (an element of EXEC's array).
    Error(Box<CommandError>),
}

impl Reply {
    /// A bulk reply that copies `bytes`.
    #[inline]
    #[must_use]
    pub fn bulk(bytes: &[u8]) -> Self {
        Self::Bulk(Blob::copy_from(bytes))
    }

    /// A simple string known at compile time.
    #[must_use]
    pub const fn simple(text: &'static str) -> Self {
        Self::Simple(Cow::Borrowed(text))
    }

    /// A bulk, or nil for `None`.
    #[must_use]
    pub fn bulk_or_nil(bytes: Option<&[u8]>) -> Self {
        bytes.map_or(Self::Nil, Self::bulk)
    }

    /// `:1` for true and `:0` for false, the spelling most commands use for yes and no.
    #[must_use]
    pub fn flag(yes: bool) -> Self {
        Self::Integer(i64::from(yes))
    }

    /// The length of a collection as an integer reply.
    #[must_use]
    pub fn count(n: usize) -> Self {
        Self::Integer(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// The error's own reply.
    #[must_use]
    pub fn error(error: CommandError) -> Self {
        Self::Error(Box::new(error))
    }

    /// Whether this is an error reply.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

impl From<CommandResult> for Reply {
    fn from(result: CommandResult) -> Self {
        result.unwrap_or_else(Self::error)
    }
}

/// Bytes of a reply: short ones inside the value, long ones shared or on the heap.
#[derive(Clone)]
pub enum Blob {
    /// Up to [`BLOB_INLINE_MAX`] bytes.
    Inline(u8, [u8; BLOB_INLINE_MAX]),
    /// Anything longer; cheap to clone.
    Heap(bytes::Bytes),
}

impl Blob {
    /// A copy of `bytes`.
    #[inline]
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        let len = bytes.len();
        if len <= BLOB_INLINE_MAX {
            let mut room = [0; BLOB_INLINE_MAX];
            room[..len].copy_from_slice(bytes);
            Self::Inline(len as u8, room)
        } else {
            Self::Heap(bytes::Bytes::copy_from_slice(bytes))
        }
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline(len, room) => &room[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl std::ops::Deref for Blob {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Blob {}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.as_slice().escape_ascii())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= BLOB_INLINE_MAX {
            Self::copy_from(&bytes)
        } else {
            Self::Heap(bytes.into())
        }
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl From<bytes::Bytes> for Blob {
    fn from(bytes: bytes::Bytes) -> Self {
        Self::Heap(bytes)
    }
}

/// The length that marks a nil element in a [`BulkList`].
const NIL_LEN: u32 = u32::MAX;

/// A list of bulks in one buffer: `len: u32 LE | bytes` each, so that a reply of a thousand
/// elements costs one allocation. An element may be nil.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkList {
    packed: Vec<u8>,
    count: usize,
}

impl BulkList {
    /// An empty list with room for `count` elements of about `element_len` bytes.
    #[must_use]
    pub fn with_capacity(count: usize, element_len: usize) -> Self {
        // A count comes from stored data, yet the guess must not become a huge reservation.
        let room = count.saturating_mul(element_len + 4).min(1 << 20);
        Self { packed: Vec::with_capacity(room), count: 0 }
    }

    /// Appends a copy of `bytes`.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() < NIL_LEN as usize);
        self.packed.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.packed.extend_from_slice(bytes);
        self.count += 1;
    }

    /// Appends the decimal text of `n`.
    #[inline]
    pub fn push_integer(&mut self, n: i64) {
        self.push(itoa::Buffer::new().format(n).as_bytes());
    }

    /// Appends a nil.
    #[inline]
    pub fn push_nil(&mut self) {
        self.packed.extend_from_slice(&NIL_LEN.to_le_bytes());
        self.count += 1;
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes the packed elements take, an estimate of the encoded size.
    #[must_use]
    pub fn packed_len(&self) -> usize {
        self.packed.len()
    }

    /// The elements in order; `None` is nil.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.packed.as_slice();
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk::<4>()?;
            let len = u32::from_le_bytes(*len);
            if len == NIL_LEN {
                rest = after;
                return Some(None);
            }
            let (bytes, after) = after.split_at(len as usize);
            rest = after;
            Some(Some(bytes))
        })
    }
}

impl<'a> FromIterator<&'a [u8]> for BulkList {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(items: I) -> Self {
        let mut list = Self::default();
        for item in items {
            list.push(item);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_list_keeps_nils_and_empty_bulks_apart() {
        let mut list = BulkList::default();
        list.push(b"");
        list.push_nil();
        list.push_integer(-7);
        let items: Vec<_> = list.iter().collect();
        assert_eq!(items, [Some(&b""[..]), None, Some(&b"-7"[..])]);
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn a_reply_stays_small() {
        // Replies are moved several times per command; 32 bytes is half a cache line.
        assert!(size_of::<Reply>() <= 40, "{}", size_of::<Reply>());
    }
}
