//! The commands of one read: where each argument lies in the connection's buffer.
//!
//! Flat arrays that are reused from read to read, so that a command costs no allocation. A
//! batch holds positions, never bytes (but for inline arguments that had to be unquoted), and
//! must be read with the very buffer that was parsed.

/// Entries kept from one read to the next; a batch that once held more gives the rest back.
const ENTRIES_KEPT_MAX: usize = 16 * 1024;

/// Marks a span that lies in [`Batch::unquoted`] and not in the connection's buffer.
const UNQUOTED: usize = 1 << (usize::BITS - 1);

/// Where one argument lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Offset, with [`UNQUOTED`] set where the bytes are the batch's own.
    start: usize,
    len: usize,
}

impl Span {
    #[inline]
    pub(super) fn new(start: usize, len: usize) -> Self {
        Self { start, len }
    }

    /// The same bytes once `by` bytes before them are gone.
    pub(super) fn moved_back(self, by: usize) -> Self {
        Self { start: self.start - by, len: self.len }
    }
}

/// Complete commands found in one buffer, in order.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) spans: Vec<Span>,
    /// For each command, how many spans there are up to its end.
    pub(super) ends: Vec<usize>,
    unquoted: Vec<u8>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many commands there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The arguments of command `index`, its name first, in the buffer that was parsed.
    ///
    /// # Panics
    /// If `index` is out of range or `buf` is not the buffer that was parsed.
    pub fn command<'a>(
        &'a self,
        index: usize,
        buf: &'a [u8],
    ) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        self.spans[from..self.ends[index]].iter().map(move |span| self.bytes(*span, buf))
    }

    /// The longest argument of command `index`: which it is, and where in the buffer it lies;
    /// `None` if it does not lie there.
    #[must_use]
    pub fn longest(&self, index: usize) -> Option<(usize, std::ops::Range<usize>)> {
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        let spans = self.spans[from..self.ends[index]].iter().enumerate();
        let (nth, span) = spans.max_by_key(|(_, span)| span.len)?;
        (span.start & UNQUOTED == 0).then_some((nth, span.start..span.start + span.len))
    }

    /// All commands as slices of byte slices; `room` lends the memory, see [`ArgRoom`].
    ///
    /// # Panics
    /// If `buf` is not the buffer that was parsed.
    #[must_use]
    pub fn commands<'a>(&'a self, buf: &'a [u8], room: &mut ArgRoom) -> Commands<'a> {
        let mut args = room.lend();
        args.extend(self.spans[..self.spans_complete()].iter().map(|span| self.bytes(*span, buf)));
        Commands { args, ends: &self.ends }
    }

    /// Forgets the commands, keeps (most of) the memory.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.ends.clear();
        self.unquoted.clear();
        if self.spans.capacity() > ENTRIES_KEPT_MAX {
            self.spans.shrink_to(ENTRIES_KEPT_MAX);
        }
        if self.ends.capacity() > ENTRIES_KEPT_MAX {
            self.ends.shrink_to(ENTRIES_KEPT_MAX);
        }
        if self.unquoted.capacity() > ENTRIES_KEPT_MAX {
            self.unquoted.shrink_to(ENTRIES_KEPT_MAX);
        }
    }

    /// How many spans belong to complete commands.
    pub(super) fn spans_complete(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Ends a command whose spans were pushed.
    #[inline]
    pub(super) fn end_command(&mut self) {
        self.ends.push(self.spans.len());
    }

    /// Where the next unquoted argument will begin.
    pub(super) fn unquoted_mark(&self) -> usize {
        self.unquoted.len()
    }

    /// Appends bytes to the unquoted argument under way.
    pub(super) fn push_unquoted(&mut self, bytes: &[u8]) {
        self.unquoted.extend_from_slice(bytes);
    }

    /// Ends the unquoted argument that began at `mark`.
    pub(super) fn end_unquoted(&mut self, mark: usize) {
        self.spans.push(Span::new(UNQUOTED | mark, self.unquoted.len() - mark));
    }

    #[inline]
    fn bytes<'a>(&'a self, span: Span, buf: &'a [u8]) -> &'a [u8] {
        if span.start & UNQUOTED == 0 {
            &buf[span.start..][..span.len]
        } else {
            &self.unquoted[span.start & !UNQUOTED..][..span.len]
        }
    }
}

/// A batch's commands, each as `&[&[u8]]`.
#[derive(Debug)]
pub struct Commands<'a> {
    args: Vec<&'a [u8]>,
    ends: &'a [usize],
}

impl<'a> Commands<'a> {
    /// How many commands there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The arguments of command `index`, its name first.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[&'a [u8]]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.args.get(start..end)
    }

    /// The commands in order.
    pub fn iter(&self) -> impl Iterator<Item = &[&'a [u8]]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let args = &self.args[start..end];
            start = end;
            args
        })
    }
}

/// The memory of a [`Commands`], kept by the connection between reads.
///
/// A vector of slices cannot outlive the buffer it points into, its *allocation* can:
/// [`Batch::commands`] borrows it and [`ArgRoom::take_back`] returns it.
#[derive(Debug, Default)]
pub struct ArgRoom {
    idle: Vec<&'static [u8]>,
}

impl ArgRoom {
    /// Room for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the memory of `commands` for the next read.
    pub fn take_back(&mut self, commands: Commands<'_>) {
        let mut args = commands.args;
        args.clear();
        if args.capacity() <= ENTRIES_KEPT_MAX {
            // Collecting an empty vector into one of the same layout reuses its allocation:
            // the safe way to change a lifetime. A test holds it to that.
            self.idle = args.into_iter().map(|_| -> &'static [u8] { &[] }).collect();
        }
    }

    fn lend<'a>(&mut self) -> Vec<&'a [u8]> {
        std::mem::take(&mut self.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_batch_is_the_same_memory_each_time() {
        let mut batch = Batch::new();
        batch.spans.extend([Span::new(0, 2), Span::new(2, 3)]);
        batch.end_command();
        let mut room = ArgRoom::new();
        let buf = *b"abcde";
        let first = batch.commands(&buf, &mut room);
        assert_eq!(first.get(0), Some(&[&b"ab"[..], b"cde"][..]));
        assert_eq!(first.get(1), None);
        let place = first.args.as_ptr() as usize;
        room.take_back(first);
        let second = batch.commands(&buf, &mut room);
        assert_eq!(second.args.as_ptr() as usize, place);
    }

    #[test]
    fn a_batch_that_was_huge_gives_memory_back() {
        let mut batch = Batch::new();
        batch.spans.resize(1 << 20, Span::new(0, 0));
        batch.end_command();
        batch.clear();
        assert!(batch.spans.capacity() <= ENTRIES_KEPT_MAX);
    }
}
