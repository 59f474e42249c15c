//! Whether a history of operations on one key could have happened one after the other.
//!
//! The search is Wing and Gong's with Lowe's cache: operations are put in an order that respects
//! real time, one by one, and a set of operations with the state they lead to is never tried
//! twice. An operation whose outcome is unknown may have happened at any time after its call, or
//! never.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

/// What a client asked for and was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// GET: what was read.
    Read(Option<Option<i64>>),
    /// SET of a value.
    Write(i64),
    /// SET of the second if the value was the first: whether it was.
    CompareAndSet(i64, i64, Option<bool>),
    /// INCR: the new value.
    Increment(Option<i64>),
    /// RPUSH of a value: the new length.
    Push(i64, Option<usize>),
    /// LPOP: what was taken.
    Pop(Option<Option<i64>>),
    /// LRANGE of all: what was read.
    ReadAll(Option<Vec<i64>>),
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which key.
    pub key: String,
    /// What it was; what it was told, if it was told anything.
    pub op: Op,
    /// When it was sent, in nanoseconds from any origin.
    pub called: u64,
    /// When its answer came; `None` if none came that tells whether it was done.
    pub returned: Option<u64>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
enum State {
    #[default]
    Absent,
    Number(i64),
    List(Vec<i64>),
}

impl State {
    fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Absent | Self::List(_) => None,
        }
    }

    fn list(&self) -> &[i64] {
        match self {
            Self::List(list) => list,
            Self::Absent | Self::Number(_) => &[],
        }
    }

    /// The state after an operation, if it could have been told what it was told.
    fn step(&self, op: &Op) -> Option<Self> {
        let fits = |told: bool| told.then(|| self.clone());
        match op {
            Op::Read(told) => fits(told.is_none_or(|told| told == self.number())),
            Op::Write(value) => Some(Self::Number(*value)),
            Op::CompareAndSet(from, to, told) => {
                let swaps = self.number() == Some(*from);
                if told.is_some_and(|told| told != swaps) {
                    return None;
                }
                Some(if swaps { Self::Number(*to) } else { self.clone() })
            }
            Op::Increment(told) => {
                let next = self.number().unwrap_or(0) + 1;
                told.is_none_or(|told| told == next).then_some(Self::Number(next))
            }
            Op::Push(value, told) => {
                let mut list = self.list().to_vec();
                list.push(*value);
                told.is_none_or(|told| told == list.len()).then_some(Self::List(list))
            }
            Op::Pop(told) => {
                let mut list = self.list().to_vec();
                let taken = if list.is_empty() { None } else { Some(list.remove(0)) };
                let next = if list.is_empty() { Self::Absent } else { Self::List(list) };
                told.is_none_or(|told| told == taken).then_some(next)
            }
            Op::ReadAll(told) => fits(told.as_ref().is_none_or(|told| told == self.list())),
        }
    }
}

/// A call or a return in the order of time.
#[derive(Clone, Copy)]
struct Node {
    op: usize,
    is_call: bool,
    before: usize,
    after: usize,
}

/// The keys whose histories no order explains; empty if all is well.
#[must_use]
pub fn violations(events: &[Event]) -> Vec<String> {
    let mut by_key: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_key.entry(&event.key).or_default().push(event);
    }
    by_key
        .into_iter()
        .filter(|(_, events)| !is_linearizable(events))
        .map(|(k, _)| k.into())
        .collect()
}

fn is_linearizable(events: &[&Event]) -> bool {
    // Index 0 is the list's head.
    let mut moments: Vec<(u64, bool, usize)> = Vec::new();
    for (op, event) in events.iter().enumerate() {
        moments.push((event.called, true, op));
        moments.push((event.returned.unwrap_or(u64::MAX), false, op));
    }
    // At one moment calls come first: operations that touch count as concurrent.
    moments.sort_by_key(|(time, is_call, op)| (*time, !is_call, *op));
    let mut nodes = vec![Node { op: usize::MAX, is_call: false, before: 0, after: 1 }];
    let mut return_of = vec![0; events.len()];
    for (place, (_, is_call, op)) in moments.iter().enumerate() {
        let at = place + 1;
        nodes.push(Node { op: *op, is_call: *is_call, before: at - 1, after: at + 1 });
        if !is_call {
            return_of[*op] = at;
        }
    }
    let end = nodes.len();
    let mut done = vec![0u64; events.len().div_ceil(64)];
    let mut tried: HashSet<(Vec<u64>, State)> = HashSet::new();
    let mut stack: Vec<(usize, State)> = Vec::new();
    let mut state = State::default();
    let mut at = nodes[0].after;
    loop {
        if at == end {
            return true;
        }
        let Node { op, is_call, after, .. } = nodes[at];
        if is_call {
            if let Some(next) = state.step(&events[op].op) {
                let mut with = done.clone();
                with[op / 64] |= 1 << (op % 64);
                if tried.insert((with.clone(), next.clone())) {
                    stack.push((at, std::mem::replace(&mut state, next)));
                    done = with;
                    unlink(&mut nodes, at);
                    unlink(&mut nodes, return_of[op]);
                    at = nodes[0].after;
                    continue;
                }
            }
            at = after;
            continue;
        }
        if events[op].returned.is_none() {
            // Only such are left that may never have happened.
            return true;
        }
        let Some((call, before)) = stack.pop() else { return false };
        let op = nodes[call].op;
        state = before;
        done[op / 64] &= !(1 << (op % 64));
        link(&mut nodes, return_of[op]);
        link(&mut nodes, call);
        at = nodes[call].after;
    }
}

fn unlink(nodes: &mut [Node], at: usize) {
    let Node { before, after, .. } = nodes[at];
    nodes[before].after = after;
    if let Some(next) = nodes.get_mut(after) {
        next.before = before;
    }
}

fn link(nodes: &mut [Node], at: usize) {
    let Node { before, after, .. } = nodes[at];
    nodes[before].after = at;
    if let Some(next) = nodes.get_mut(after) {
        next.before = at;
    }
}

/// A time during which a client held a lock for sure, and those in which it was given.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// When the client asked.
    pub called: u64,
    /// When it was told that it has it.
    pub returned: u64,
    /// Until when nobody else may get it: it was asked to be released then, or its time was up.
    pub until: u64,
}

/// Pairs of holders of one lock at one time.
#[must_use]
pub fn shared_locks(held: &[Held]) -> usize {
    let mut held = held.to_vec();
    held.sort_by_key(|one| one.returned);
    let overlap = |(place, one): (usize, &Held)| {
        held[place + 1..].iter().filter(|other| other.returned < one.until).count()
    };
    held.iter().enumerate().map(overlap).sum()
}

/// A fencing token that a client was given.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// When the client asked.
    pub called: u64,
    /// When it was told.
    pub returned: u64,
    /// The token.
    pub token: i64,
}

/// How many tokens are not greater than one that was told before they were asked for, or are the
/// same as another.
#[must_use]
pub fn tokens_out_of_order(given: &[Token]) -> usize {
    let (mut by_call, mut by_return) = (given.to_vec(), given.to_vec());
    by_call.sort_by_key(|one| one.called);
    by_return.sort_by_key(|one| one.returned);
    let mut told = by_return.into_iter().peekable();
    let mut greatest = i64::MIN;
    let mut wrong = 0;
    for one in by_call {
        while let Some(before) = told.next_if(|before| before.returned < one.called) {
            greatest = greatest.max(before.token);
        }
        wrong += usize::from(one.token <= greatest);
    }
    let unique: HashSet<i64> = given.iter().map(|one| one.token).collect();
    wrong + given.len() - unique.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(op: Op, called: u64, returned: u64) -> Event {
        Event { key: "k".into(), op, called, returned: Some(returned) }
    }

    fn is_fine(events: &[Event]) -> bool {
        violations(events).is_empty()
    }

    #[test]
    fn what_can_have_happened_is_told_from_what_cannot() {
        let write = event(Op::Write(1), 0, 10);
        assert!(is_fine(&[write.clone(), event(Op::Read(Some(Some(1))), 11, 12)]));
        assert!(!is_fine(&[write.clone(), event(Op::Read(Some(None)), 11, 12)]), "a stale read");
        assert!(is_fine(&[write.clone(), event(Op::Read(Some(None)), 5, 12)]), "at the same time");
        let unknown = Event { returned: None, ..write.clone() };
        let reads = |first, second| {
            [
                unknown.clone(),
                event(Op::Read(Some(first)), 20, 21),
                event(Op::Read(Some(second)), 30, 31),
            ]
        };
        assert!(is_fine(&reads(None, None)) && is_fine(&reads(None, Some(1))));
        assert!(!is_fine(&reads(Some(1), None)), "it cannot have been undone");
        // Two that both swapped the same value.
        let swap = |to| Op::CompareAndSet(1, to, Some(true));
        assert!(!is_fine(&[write.clone(), event(swap(2), 20, 30), event(swap(3), 20, 30)]));
        assert!(is_fine(&[
            write,
            event(swap(2), 20, 30),
            event(Op::CompareAndSet(1, 3, Some(false)), 20, 30)
        ]));
        assert!(!is_fine(&[
            event(Op::Increment(Some(1)), 0, 10),
            event(Op::Increment(Some(1)), 0, 10),
        ]));
        assert!(!is_fine(&[
            event(Op::Push(7, Some(1)), 0, 10),
            event(Op::Pop(Some(Some(7))), 11, 20),
            event(Op::Pop(Some(Some(7))), 11, 20),
        ]));
    }

    #[test]
    fn many_at_once_are_searched_in_time() {
        let mut events: Vec<Event> =
            (0..200).map(|n| event(Op::Increment(Some(n + 1)), 0, 1_000 + n as u64)).collect();
        events.push(event(Op::Read(Some(Some(200))), 5_000, 5_001));
        assert!(is_fine(&events));
        events.push(event(Op::Read(Some(Some(199))), 6_000, 6_001));
        assert!(!is_fine(&events));
    }

    #[test]
    fn two_holders_of_a_lock_are_seen() {
        let held = |returned, until| Held { called: returned - 1, returned, until };
        assert_eq!(shared_locks(&[held(10, 20), held(21, 30)]), 0);
        assert_eq!(shared_locks(&[held(10, 20), held(15, 30)]), 1);
    }

    #[test]
    fn tokens_that_do_not_grow_are_seen() {
        let token = |called, returned, token| Token { called, returned, token };
        assert_eq!(tokens_out_of_order(&[token(0, 5, 1), token(6, 9, 2)]), 0);
        assert_eq!(tokens_out_of_order(&[token(0, 7, 2), token(6, 9, 1)]), 0, "at the same time");
        assert_eq!(tokens_out_of_order(&[token(0, 5, 2), token(6, 9, 1)]), 1);
        assert_eq!(tokens_out_of_order(&[token(0, 7, 1), token(6, 9, 1)]), 1, "given twice");
    }
}
