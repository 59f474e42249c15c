//! What a connection still has to send: one growing buffer, and long values shared, not copied.
//!
//! Small replies are appended to the tail, the fast path. A long value becomes a chunk of its
//! own, so that GET of 100 MB, or a message to a thousand subscribers, copies nothing. Written
//! by `write_buf` or vectored writes through [`bytes::Buf`]. Must never block or send.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// From this length on a shared value is queued instead of copied: below it, the copy costs
/// less than another segment of a vectored write.
pub const SHARED_LEN_MIN: usize = 16 * 1024;

/// Memory an idle connection's buffer may keep.
const TAIL_KEPT_MAX: usize = 64 * 1024;

/// Bytes waiting to be written, in order.
#[derive(Debug, Default)]
pub struct Output {
    /// Complete chunks, all before the tail.
    queue: VecDeque<Bytes>,
    queue_len: usize,
    tail: Vec<u8>,
    /// How much of the tail is written already; more than 0 only while the queue is empty.
    written: usize,
}

impl Output {
    /// Nothing to send.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes wait: what `client-output-buffer-limit` is compared with.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue_len + self.tail.len() - self.written
    }

    /// Whether nothing waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a copy of encoded bytes.
    #[inline]
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends encoded bytes, sharing them if they are long.
    #[inline]
    pub fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_LEN_MIN {
            self.tail.extend_from_slice(bytes);
        } else {
            self.push_shared(bytes.clone());
        }
    }

    /// Where encoders append; bytes already there are not theirs.
    #[inline]
    pub(super) fn tail_mut(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends a chunk without copying it, however short.
    fn push_shared(&mut self, bytes: Bytes) {
        self.close_tail();
        self.queue_len += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Makes the tail a chunk of the queue.
    fn close_tail(&mut self) {
        if self.tail.len() > self.written {
            let mut chunk = Bytes::from(std::mem::take(&mut self.tail));
            chunk.advance(self.written);
            self.queue_len += chunk.len();
            self.queue.push_back(chunk);
        }
        self.tail.clear();
        self.written = 0;
    }

    /// Forgets what waits behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        if len >= self.queue_len {
            self.tail.truncate(self.written + len - self.queue_len);
            return;
        }
        self.tail.clear();
        self.written = 0;
        while let Some(last) = self.queue.pop_back() {
            self.queue_len -= last.len();
            if self.queue_len <= len {
                let kept = last.slice(..len - self.queue_len);
                self.queue_len = len;
                if !kept.is_empty() {
                    self.queue.push_back(kept);
                }
                return;
            }
        }
    }

    /// Forgets everything that waits.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.queue_len = 0;
        self.reset_tail();
    }

    fn reset_tail(&mut self) {
        self.tail.clear();
        self.written = 0;
        if self.tail.capacity() > TAIL_KEPT_MAX {
            self.tail.shrink_to(TAIL_KEPT_MAX);
        }
    }
}

impl Buf for Output {
    #[inline]
    fn remaining(&self) -> usize {
        self.len()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        match self.queue.front() {
            Some(chunk) => chunk,
            None => &self.tail[self.written..],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = &self.tail[self.written..];
        let chunks = self.queue.iter().map(|chunk| &chunk[..]);
        let chunks = chunks.chain((!tail.is_empty()).then_some(tail));
        let mut used = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            used += 1;
        }
        used
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "more was written than was waiting");
        while let Some(front) = self.queue.front_mut() {
            if count < front.len() {
                front.advance(count);
                self.queue_len -= count;
                return;
            }
            count -= front.len();
            self.queue_len -= front.len();
            self.queue.pop_front();
        }
        self.written += count;
        if self.written == self.tail.len() {
            self.reset_tail();
        } else if self.written > TAIL_KEPT_MAX && self.written > self.tail.len() / 2 {
            // A client that reads steadily but never catches up must not grow the buffer: give
            // the written half back, at a cost that each byte bears at most once.
            self.tail.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(output: &mut Output) -> Vec<u8> {
        let mut all = Vec::new();
        while output.has_remaining() {
            let chunk = output.chunk();
            let len = chunk.len().div_ceil(2);
            all.extend_from_slice(&chunk[..len]);
            output.advance(len);
        }
        all
    }

    #[test]
    fn long_chunks_are_shared_and_short_ones_copied() {
        let mut output = Output::new();
        output.push_copy(b"head");
        let long = Bytes::from(vec![b'x'; SHARED_LEN_MIN]);
        output.push(&long);
        output.push_copy(b"tail");
        assert_eq!(output.len(), SHARED_LEN_MIN + 8);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(output.chunks_vectored(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), long.as_ptr());
        assert_eq!(output.chunks_vectored(&mut [IoSlice::new(&[]); 2]), 2);
        let all = drain(&mut output);
        assert!(all.starts_with(b"headxx") && all.ends_with(b"xxtail"));
        assert!(output.is_empty());
    }

    #[test]
    fn what_waits_behind_a_length_can_be_forgotten() {
        let long = Bytes::from(vec![b'x'; SHARED_LEN_MIN]);
        for sent in [0, 2] {
            let filled = || {
                let mut output = Output::new();
                output.push_copy(b"head");
                output.push(&long);
                output.push_copy(b"mid");
                output.push(&long);
                output.push_copy(b"tail");
                output.advance(sent);
                output
            };
            let whole = drain(&mut filled());
            for len in [0, 1, 2, 3, 4, 100, SHARED_LEN_MIN, SHARED_LEN_MIN + 5, whole.len() - 2] {
                let mut output = filled();
                output.truncate(len);
                assert_eq!(output.len(), len);
                output.push_copy(b"new");
                assert_eq!(drain(&mut output), [&whole[..len], b"new"].concat(), "{len}");
            }
            let mut output = filled();
            output.truncate(whole.len() + 1);
            assert_eq!(drain(&mut output), whole);
        }
        let mut output = Output::new();
        output.push_copy(b"only a tail");
        output.advance(5);
        output.truncate(1);
        assert_eq!(drain(&mut output), b"a");
    }

    #[test]
    fn a_reader_that_never_catches_up_does_not_grow_the_buffer() {
        let mut output = Output::new();
        output.push_copy(&[0; 1000]);
        for _ in 0..10_000 {
            output.push_copy(&[1; 1000]);
            output.advance(1000);
        }
        assert_eq!(output.len(), 1000);
        assert!(output.tail.capacity() < 8 * TAIL_KEPT_MAX, "{}", output.tail.capacity());
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_they_came(
            steps in prop::collection::vec((0usize..3, 0usize..40_000), 1..20)
        ) {
            let (mut output, mut expected, mut got) = (Output::new(), Vec::new(), Vec::new());
            for (i, (kind, len)) in steps.into_iter().enumerate() {
                let bytes = vec![i as u8; len];
                match kind {
                    0 => output.push_copy(&bytes),
                    1 => output.push(&Bytes::from(bytes.clone())),
                    _ => {
                        let len = len.min(output.len());
                        got.extend_from_slice(&output.copy_to_bytes(len));
                        continue;
                    }
                }
                expected.extend_from_slice(&bytes);
            }
            got.extend(drain(&mut output));
            prop_assert!(got == expected);
        }
    }
}
