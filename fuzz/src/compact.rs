//! The compact encodings: listpacks and sets of integers against a `Vec` and a `BTreeSet`, and
//! listpacks of bytes that nobody vouches for.

use std::collections::BTreeSet;

use holdfast_engine::value::intset::IntSet;
use holdfast_engine::value::listpack::{Listpack, Packed};

/// Steps to take of one input, and entries to hold: each step costs a walk.
const STEPS_MAX: usize = 400;

/// The first byte chooses the body; the rest is what it reads.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((0, rest)) => untrusted(rest),
        Some((1, rest)) => integers(rest),
        Some((_, rest)) => entries(rest),
        None => {}
    }
}

/// Reads the input from its start; zeros when it is at its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let byte = self.0.split_off_first();
        byte.copied().unwrap_or_default()
    }

    /// A number of any width, so that every width is likely.
    fn number(&mut self) -> i64 {
        let width = usize::from(self.byte() % 9).min(self.0.len());
        let mut bytes = [0; 8];
        let taken = self.0.split_off(..width).unwrap_or_default();
        bytes[..width].copy_from_slice(taken);
        let bits = (8 - width as u32) * 8;
        // Sign-extended: small negative numbers are as likely as positive ones.
        i64::from_le_bytes(bytes).checked_shl(bits).unwrap_or(0) >> bits.min(63)
    }

    /// What one entry holds: a number's text, or bytes that look like one, or any bytes.
    fn entry(&mut self) -> Vec<u8> {
        match self.byte() {
            kind @ 0..=99 => {
                let mut text = self.number().to_string();
                if kind < 10 {
                    // Not the one text of the number, so a string of bytes.
                    text.insert(usize::from(text.starts_with('-')), '0');
                }
                text.into_bytes()
            }
            kind @ 100..=119 => vec![self.byte(); usize::from(kind) * 13],
            // Around 191 bytes the head changes.
            kind @ 120..=129 => vec![self.byte(); 186 + usize::from(kind - 120)],
            kind => {
                let len = usize::from(kind % 6).min(self.0.len());
                self.0.split_off(..len).unwrap_or_default().to_vec()
            }
        }
    }

    fn index(&mut self, len: usize) -> usize {
        if len == 0 { 0 } else { usize::from(self.byte()) % len }
    }
}

/// A listpack does what a vector of byte strings does.
fn entries(data: &[u8]) {
    let mut input = Input(data);
    let mut pack = Listpack::new();
    let mut model: Vec<Vec<u8>> = Vec::new();
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() {
            break;
        }
        let len = model.len();
        match input.byte() % 24 {
            0 | 1 | 12..=17 => {
                let entry = input.entry();
                pack.push_back(&entry);
                model.push(entry);
            }
            2 | 3 | 18..=23 => {
                let entry = input.entry();
                pack.push_front(&entry);
                model.insert(0, entry);
            }
            4 => {
                let (index, entry) = (input.index(len + 1), input.entry());
                pack.insert(index, &entry);
                model.insert(index, entry);
            }
            5 if len > 0 => {
                let (index, entry) = (input.index(len), input.entry());
                pack.replace(index, &entry);
                model[index] = entry;
            }
            6 if len > 0 => {
                let index = input.index(len);
                pack.remove(index);
                model.remove(index);
            }
            7 if len > 0 => {
                let index = input.index(len);
                let count = input.index(len - index + 1).min(3);
                pack.remove_range(index, count);
                model.drain(index..index + count);
            }
            8 if len > 0 => {
                pack.drop_front();
                model.remove(0);
            }
            9 if len > 0 => {
                pack.drop_back();
                model.pop();
            }
            10 => {
                let index = input.index(len + 1);
                let (rest, expected) = (pack.split_off(index), model.split_off(index));
                assert_same(&rest, &expected);
                if rest.len() > pack.len() {
                    (pack, model) = (rest, expected);
                }
            }
            11 => {
                pack.reserve(usize::from(input.byte()));
                pack.shrink_to_fit();
            }
            _ => {}
        }
        assert_same(&pack, &model);
        search(&pack, &model, &mut input);
    }
}

fn assert_same(pack: &Listpack, model: &[Vec<u8>]) {
    assert_eq!(pack.len(), model.len());
    assert!(pack.packed_len() <= pack.memory_len());
    let forward: Vec<_> = pack.iter().map(|entry| entry.to_vec()).collect();
    assert_eq!(forward, model, "from the front");
    let mut backward: Vec<_> = pack.iter().rev().map(|entry| entry.to_vec()).collect();
    backward.reverse();
    assert_eq!(backward, model, "from the back");
    let packed_len: usize = model.iter().map(|entry| Packed::new(entry).packed_len()).sum();
    assert_eq!(pack.packed_len(), packed_len);
    let (heads, bodies) = pack.as_parts();
    let again = Listpack::from_untrusted(heads, bodies).expect("its own bytes are sound");
    assert!(again.iter().eq(pack.iter()), "read back");
}

/// Finds what the model finds, from any start and in steps, whatever is looked for.
fn search(pack: &Listpack, model: &[Vec<u8>], input: &mut Input<'_>) {
    let needle = match model.get(input.index(model.len().max(1))) {
        Some(entry) if input.byte() < 200 => entry.clone(),
        _ => input.entry(),
    };
    let (first, step) = (input.index(model.len() + 1), 1 + usize::from(input.byte() % 3));
    let expected = (first..model.len()).step_by(step).find(|&index| model[index] == needle);
    assert_eq!(pack.find(&Packed::new(&needle), first, step), expected);
    let index = input.index(model.len() + 1);
    assert_eq!(pack.get(index).map(|entry| entry.to_vec()), model.get(index).cloned());
}

/// A compact set of integers does what an ordered set does.
fn integers(data: &[u8]) {
    let mut input = Input(data);
    let mut set = IntSet::new();
    let mut model = BTreeSet::new();
    for _ in 0..STEPS_MAX {
        if input.0.is_empty() {
            break;
        }
        let (action, number) = (input.byte(), input.number());
        match action % 4 {
            0 | 1 => assert_eq!(set.insert(number), model.insert(number)),
            2 => assert_eq!(set.remove(number), model.remove(&number)),
            _ => {
                let index = input.index(model.len());
                if let Some(&member) = model.iter().nth(index) {
                    set.remove_at(index);
                    model.remove(&member);
                }
            }
        }
        assert_eq!(set.contains(number), model.contains(&number));
        assert!(set.iter().eq(model.iter().copied()));
        assert!(set.iter().rev().eq(model.iter().rev().copied()));
        assert_eq!(set.len(), model.len());
        let index = input.index(model.len() + 1);
        assert_eq!(set.get(index), model.iter().nth(index).copied());
    }
}

/// Bytes from outside are refused, or are a listpack whose own bytes they are.
fn untrusted(data: &[u8]) {
    let Some((&heads_len, data)) = data.split_first() else { return };
    let (heads, bodies) = data.split_at(usize::from(heads_len).min(data.len()));
    if let Some(pack) = Listpack::from_untrusted(heads, bodies) {
        assert_eq!(pack.as_parts(), (heads, bodies));
        let entries: Vec<_> = pack.iter().map(|entry| entry.to_vec()).collect();
        assert_same(&pack, &entries);
    }
}
