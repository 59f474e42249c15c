//! LCS: the longest common subsequence of two strings.
//!
//! The table of lengths is never kept: two rows of it make the next, and one bit per cell
//! remembers which way the walk back goes, a thirty-second of what Redis allocates.

use super::basic::string_bytes;
use crate::command::options::{Options, integer, is};
use crate::command::{Access, Args, Command, Group, KeySpec};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::raw::Record;
use crate::reply::{Blob, CommandResult, Reply};

/// Most cells of the table: what Redis keeps in 4 GiB, and a second's work.
const CELLS_MAX: usize = 1 << 30;

/// What LCS answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Text,
    Len,
    Matches { len_min: usize, with_len: bool },
}

fn parse(args: Args<'_>) -> Result<Answer, CommandError> {
    let (mut len, mut idx, mut with_len, mut len_min) = (false, false, false, 0);
    let mut options = Options::after(args, 3);
    while let Some(option) = options.next() {
        if is(option, "IDX") {
            idx = true;
        } else if is(option, "LEN") {
            len = true;
        } else if is(option, "WITHMATCHLEN") {
            with_len = true;
        } else if is(option, "MINMATCHLEN") {
            len_min = usize::try_from(integer(options.value()?)?).unwrap_or(0);
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    match (len, idx) {
        (true, true) => Err(CommandError::known(
            "ERR If you want both the length and indexes, please just use IDX.",
        )),
        (true, false) => Ok(Answer::Len),
        (false, true) => Ok(Answer::Matches { len_min, with_len }),
        (false, false) => Ok(Answer::Text),
    }
}

/// Which neighbour each cell's length came from, one bit per cell.
struct Ways {
    bits: Vec<u64>,
    columns: usize,
}

impl Ways {
    fn new(rows: usize, columns: usize) -> Self {
        Self { bits: vec![0; (rows * columns).div_ceil(64)], columns }
    }

    fn set_up(&mut self, row: usize, column: usize) {
        let cell = row * self.columns + column;
        self.bits[cell / 64] |= 1 << (cell % 64);
    }

    /// Whether the cell above holds more than the one to the left.
    fn is_up(&self, row: usize, column: usize) -> bool {
        let cell = row * self.columns + column;
        self.bits[cell / 64] >> (cell % 64) & 1 == 1
    }
}

/// The length of the longest common subsequence; tells `up` of each cell where the length above
/// is greater than that to the left.
fn fill(a: &[u8], b: &[u8], mut up: impl FnMut(usize, usize)) -> usize {
    let mut above = vec![0u32; b.len() + 1];
    let mut current = above.clone();
    for (row, byte) in a.iter().enumerate() {
        for (column, other) in b.iter().enumerate() {
            current[column + 1] = if byte == other {
                above[column] + 1
            } else if above[column + 1] > current[column] {
                up(row, column);
                above[column + 1]
            } else {
                current[column]
            };
        }
        std::mem::swap(&mut above, &mut current);
    }
    above[b.len()] as usize
}

/// A run of bytes common to both strings: where it begins in each, and its length.
struct Run {
    a: usize,
    b: usize,
    len: usize,
}

/// The runs of the longest common subsequence, from the ends of the strings to their beginnings.
fn runs(a: &[u8], b: &[u8], ways: &Ways) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            match runs.last_mut() {
                Some(run) if run.a == i + 1 && run.b == j + 1 => {
                    *run = Run { a: i, b: j, len: run.len + 1 };
                }
                _ => runs.push(Run { a: i, b: j, len: 1 }),
            }
        } else if ways.is_up(i - 1, j - 1) {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    runs
}

fn match_reply(run: &Run, with_len: bool) -> Reply {
    let range = |at: usize| Reply::Array(vec![Reply::count(at), Reply::count(at + run.len - 1)]);
    let mut parts = vec![range(run.a), range(run.b)];
    if with_len {
        parts.push(Reply::count(run.len));
    }
    Reply::Array(parts)
}

fn lcs_reply(a: &[u8], b: &[u8], answer: Answer) -> CommandResult {
    if (a.len() + 1).saturating_mul(b.len() + 1) > CELLS_MAX {
        return Err(CommandError::known(
            "ERR Insufficient memory, failed allocating transient memory for LCS",
        ));
    }
    if answer == Answer::Len {
        return Ok(Reply::count(fill(a, b, |_, _| {})));
    }
    let mut ways = Ways::new(a.len(), b.len());
    let len = fill(a, b, |row, column| ways.set_up(row, column));
    let runs = runs(a, b, &ways);
    let Answer::Matches { len_min, with_len } = answer else {
        let text: Vec<u8> =
            runs.iter().rev().flat_map(|run| &a[run.a..run.a + run.len]).copied().collect();
        return Ok(Reply::Bulk(Blob::from(text)));
    };
    let matches = runs
        .iter()
        .filter(|run| run.len >= len_min)
        .map(|run| match_reply(run, with_len))
        .collect();
    Ok(Reply::Map(vec![
        (Reply::bulk(b"matches"), Reply::Array(matches)),
        (Reply::bulk(b"len"), Reply::count(len)),
    ]))
}

/// `LCS key1 key2 [LEN] [IDX] [MINMATCHLEN n] [WITHMATCHLEN]`: the subsequence; its length with
/// LEN; with IDX a map of the matching ranges, last first, and the length. O(N × M).
fn lcs(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (mut a_digits, mut b_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    fn bytes<'a>(
        record: Option<&'a Record>,
        digits: &'a mut itoa::Buffer,
    ) -> Result<&'a [u8], CommandError> {
        record.map_or(Ok(&[]), |record| string_bytes(record, digits))
    }
    let (a, b) = (view.get(args[1]), view.get(args[2]));
    let not_strings = |_| CommandError::known("ERR The specified keys must contain string values");
    let a = bytes(a, &mut a_digits).map_err(not_strings)?;
    let b = bytes(b, &mut b_digits).map_err(not_strings)?;
    lcs_reply(a, b, parse(args)?)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::read("lcs", -3, Group::String, lcs)
    .keys(&[KeySpec::range(1, 1, 1, Access::Read)])
    .doc(
        "7.0.0",
        "O(N*M) where N and M are the lengths of s1 and s2, respectively",
        "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
        "Finds the longest common substring.",
    )
    .differs("Refuses pairs of strings whose table would take Redis more than 4 GiB.")];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn the_documented_example() {
        Bench::new().check(&[
            ("MSET a ohmytext b mynewtext", "OK"),
            ("LCS a b", "\"mytext\""),
            ("LCS a b LEN", "6"),
            ("LCS a b IDX", "{\"matches\": [[[4 7] [5 8]] [[2 3] [0 1]]], \"len\": 6}"),
            (
                "LCS a b IDX WITHMATCHLEN MINMATCHLEN 4",
                "{\"matches\": [[[4 7] [5 8] 4]], \"len\": 6}",
            ),
            ("LCS a b idx minmatchlen -4 minmatchlen 5", "{\"matches\": [], \"len\": 6}"),
            ("LCS a b WITHMATCHLEN", "\"mytext\""),
            ("LCS none b", "\"\""),
            ("LCS none b LEN", "0"),
            ("LCS none none IDX", "{\"matches\": [], \"len\": 0}"),
        ]);
    }

    #[test]
    fn errors() {
        let mut bench = Bench::new();
        bench.check(&[
            ("LCS a b FOO", "-ERR syntax error"),
            ("LCS a b MINMATCHLEN", "-ERR syntax error"),
            ("LCS a b MINMATCHLEN x", "-ERR value is not an integer or out of range"),
            (
                "LCS a b LEN IDX",
                "-ERR If you want both the length and indexes, please just use IDX.",
            ),
            ("SETRANGE a 40000 x", "40001"),
            ("LCS a a LEN", "-ERR Insufficient memory, failed allocating transient memory for LCS"),
        ]);
    }

    #[test]
    fn the_subsequence_is_one_and_as_long_as_told() {
        let subsequence = |part: &[u8], whole: &[u8]| {
            let mut rest = whole.iter();
            part.iter().all(|byte| rest.any(|other| other == byte))
        };
        for seed in 0..200u64 {
            let text = |mut state: u64| -> Vec<u8> {
                let len = state % 40;
                let mut next = || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    b'a' + (state >> 60) as u8 % 3
                };
                (0..len).map(|_| next()).collect()
            };
            let (a, b) = (text(seed * 7 + 3), text(seed * 13 + 5));
            let len = super::fill(&a, &b, |_, _| {});
            let mut ways = super::Ways::new(a.len(), b.len());
            super::fill(&a, &b, |row, column| ways.set_up(row, column));
            let runs = super::runs(&a, &b, &ways);
            let found: Vec<u8> =
                runs.iter().rev().flat_map(|run| a[run.a..run.a + run.len].to_vec()).collect();
            assert_eq!(found.len(), len);
            assert!(subsequence(&found, &a) && subsequence(&found, &b));
        }
    }
}
