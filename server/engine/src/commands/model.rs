//! Random commands against a model: maps with expiries, and nothing else.
//!
//! Beside the replies it checks that two engines fed the same proposals end in the same state,
//! however differently they give back the memory of expired keys, and that a key's version
//! changes whenever the key does.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::effects::{Effects, EventClass};
use crate::reply::Reply;
use crate::testing::{Bench, START, show};
use crate::time::DbIndex;

const KEYS: [&str; 5] = ["a", "b", "c", "", "a long key, longer than any blob"];
/// Enough that a swap has neighbours on both sides.
const DBS: u16 = 4;
const VALUES: [&str; 6] =
    ["", "x", "7", "-12", "0.5", "a value longer than an embstr may be, for sure"];

/// What one key holds, and when it expires.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    value: Vec<u8>,
    expires_at: Option<i64>,
}

/// The simplest keyspace there is.
#[derive(Debug, Clone, Default)]
struct Model {
    dbs: Vec<BTreeMap<String, Entry>>,
    db: usize,
    now: i64,
}

impl Model {
    fn new() -> Self {
        Self { dbs: vec![BTreeMap::new(); DBS.into()], db: 0, now: START }
    }

    fn expire(&mut self) {
        let now = self.now;
        for db in &mut self.dbs {
            db.retain(|_, entry| entry.expires_at.is_none_or(|at| at > now));
        }
    }

    fn selected(&mut self) -> &mut BTreeMap<String, Entry> {
        &mut self.dbs[self.db]
    }

    fn value(&mut self, key: &str) -> String {
        self.selected()
            .get(key)
            .map_or("nil".to_owned(), |entry| format!("\"{}\"", entry.value.escape_ascii()))
    }

    fn set(&mut self, key: &str, value: &str, expires_at: Option<i64>) {
        let value = value.as_bytes().to_vec();
        let entry = Entry { value, expires_at };
        self.selected().insert(key.to_owned(), entry);
    }

    fn len(&mut self, key: &str) -> usize {
        self.selected().get(key).map_or(0, |entry| entry.value.len())
    }

    /// Changes a value in place, made empty if it was not there.
    fn edit(&mut self, key: &str, work: impl FnOnce(&mut Vec<u8>)) -> String {
        let entry = self
            .selected()
            .entry(key.to_owned())
            .or_insert(Entry { value: Vec::new(), expires_at: None });
        work(&mut entry.value);
        entry.value.len().to_string()
    }
}

fn flag(yes: bool) -> String {
    u8::from(yes).to_string()
}

/// The operands of a random command.
#[derive(Debug, Clone, Copy)]
struct Draw {
    op: u8,
    key: usize,
    other: usize,
    value: usize,
    ms: i64,
    db: u16,
}

fn draw() -> impl Strategy<Value = Draw> {
    (0..26u8, 0..KEYS.len(), 0..KEYS.len(), 0..VALUES.len(), -2..8i64, 0..DBS)
        .prop_map(|(op, key, other, value, ms, db)| Draw { op, key, other, value, ms, db })
}

/// The command that `draw` stands for and, by the model, its reply; time passes when there is
/// no command.
#[expect(clippy::too_many_lines, reason = "one arm per command")]
fn apply(model: &mut Model, draw: Draw) -> Option<(Vec<String>, String)> {
    let (key, other, value) = (KEYS[draw.key], KEYS[draw.other], VALUES[draw.value]);
    let (ms, now) = (draw.ms, model.now);
    let (other_db, positive) = (draw.db.to_string(), ms.max(1));
    let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let before = model.selected().get(key).cloned();
    let ok = "OK".to_owned();
    Some(match draw.op {
        0 => {
            model.set(key, value, None);
            (args(&["SET", key, value]), ok)
        }
        1 => {
            model.set(key, value, Some(now + positive));
            (args(&["SET", key, value, "PX", &positive.to_string()]), ok)
        }
        2 => {
            let kept = before.and_then(|entry| entry.expires_at);
            model.set(key, value, kept);
            (args(&["SET", key, value, "KEEPTTL"]), ok)
        }
        3 => {
            let reply = if before.is_none() {
                model.set(key, value, None);
                ok
            } else {
                "nil".to_owned()
            };
            (args(&["SET", key, value, "NX"]), reply)
        }
        4 => {
            let reply = model.value(key);
            if before.is_some_and(|entry| entry.value == b"7") {
                model.set(key, value, None);
            }
            (args(&["SET", key, value, "IFEQ", "7", "GET"]), reply)
        }
        5 => (args(&["GET", key]), model.value(key)),
        6 => {
            let mut count = 0;
            for key in [key, other] {
                count += usize::from(model.selected().remove(key).is_some());
            }
            (args(&["DEL", key, other]), count.to_string())
        }
        7 => {
            let stored = before.as_ref().map_or(Some(0), |entry| {
                let text = std::str::from_utf8(&entry.value).ok()?;
                let number = text.parse::<i64>().ok()?;
                (number.to_string() == text).then_some(number)
            });
            let reply = match stored {
                None => "-ERR value is not an integer or out of range".to_owned(),
                Some(number) => {
                    let sum = (number + ms).to_string();
                    model.set(key, &sum, before.and_then(|entry| entry.expires_at));
                    sum
                }
            };
            (args(&["INCRBY", key, &ms.to_string()]), reply)
        }
        8 => {
            let reply = model.edit(key, |bytes| bytes.extend_from_slice(value.as_bytes()));
            (args(&["APPEND", key, value]), reply)
        }
        9 => {
            let (offset, value) = (positive as usize, value.as_bytes());
            let reply = if value.is_empty() {
                model.len(key).to_string()
            } else {
                model.edit(key, |bytes| {
                    let len = bytes.len().max(offset + value.len());
                    bytes.resize(len, 0);
                    bytes[offset..offset + value.len()].copy_from_slice(value);
                })
            };
            let value = VALUES[draw.value];
            (args(&["SETRANGE", key, &offset.to_string(), value]), reply)
        }
        10 | 11 => {
            let option = ["NX", "XX", "GT", "LT"][draw.value % 4];
            let at = now + ms;
            let allowed = before.is_some_and(|entry| match (option, entry.expires_at) {
                ("NX", current) => current.is_none(),
                ("XX", current) => current.is_some(),
                ("GT", current) => current.is_some_and(|current| at > current),
                (_, current) => current.is_none_or(|current| at < current),
            });
            if allowed && let Some(entry) = model.selected().get_mut(key) {
                entry.expires_at = Some(at);
            }
            model.expire();
            let line = args(&["PEXPIRE", key, &ms.to_string(), option]);
            (line, flag(allowed))
        }
        12 => {
            let entry = model.selected().get_mut(key);
            let had = entry.is_some_and(|entry| entry.expires_at.take().is_some());
            (args(&["PERSIST", key]), flag(had))
        }
        13 => {
            let left = before.map_or(-2, |entry| entry.expires_at.map_or(-1, |at| at - now));
            (args(&["PTTL", key]), left.to_string())
        }
        14 => {
            let reply = match before {
                None => "-ERR no such key".to_owned(),
                Some(entry) => {
                    model.selected().remove(key);
                    model.selected().insert(other.to_owned(), entry);
                    ok
                }
            };
            (args(&["RENAME", key, other]), reply)
        }
        15 | 16 => {
            let replace = draw.op == 16;
            let (to, from) = (usize::from(draw.db), model.db);
            let mut line = args(&["COPY", key, other, "DB", &other_db]);
            if replace {
                line.push("REPLACE".to_owned());
            }
            let reply = match before {
                _ if to == from && key == other => {
                    "-ERR source and destination objects are the same".to_owned()
                }
                Some(entry) if replace || !model.dbs[to].contains_key(other) => {
                    model.dbs[to].insert(other.to_owned(), entry);
                    flag(true)
                }
                _ => flag(false),
            };
            (line, reply)
        }
        17 => {
            let (to, from) = (usize::from(draw.db), model.db);
            let reply = match before {
                _ if to == from => "-ERR source and destination objects are the same".to_owned(),
                Some(entry) if !model.dbs[to].contains_key(key) => {
                    model.selected().remove(key);
                    model.dbs[to].insert(key.to_owned(), entry);
                    flag(true)
                }
                _ => flag(false),
            };
            (args(&["MOVE", key, &other_db]), reply)
        }
        18 => {
            model.dbs.swap(draw.other % usize::from(DBS), draw.db.into());
            let first = (draw.other % usize::from(DBS)).to_string();
            (args(&["SWAPDB", &first, &other_db]), ok)
        }
        19 if draw.value == 0 => {
            model.selected().clear();
            (args(&["FLUSHDB"]), ok)
        }
        19 => (args(&["DBSIZE"]), model.selected().len().to_string()),
        20 => {
            model.set(key, value, None);
            model.set(other, key, None);
            (args(&["MSET", key, value, other, key]), ok)
        }
        21 => {
            let reply = model.value(key);
            if let Some(entry) = model.selected().get_mut(key) {
                entry.expires_at = Some(now + positive);
            }
            let line = args(&["GETEX", key, "PX", &positive.to_string()]);
            (line, reply)
        }
        22 => {
            let equal = before.is_some_and(|entry| entry.value == value.as_bytes());
            if equal {
                model.selected().remove(key);
            }
            (args(&["DELIFEQ", key, value]), flag(equal))
        }
        23 => {
            model.db = draw.db.into();
            return None;
        }
        _ => {
            model.now += positive;
            model.expire();
            return None;
        }
    })
}

/// The keys that a whole SCAN tells, and those that KEYS tells, both in order.
fn listings(bench: &mut Bench) -> (Vec<String>, Vec<String>) {
    let text = |reply: &Reply| match reply {
        Reply::Bulks(keys) => keys
            .iter()
            .flatten()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let (mut scanned, mut cursor) = (Vec::new(), b"0".to_vec());
    loop {
        let Reply::Array(parts) = bench.run(&[&b"SCAN"[..], &cursor, b"COUNT", b"1"]) else {
            panic!()
        };
        scanned.extend(text(&parts[1]));
        let Reply::Bulk(next) = &parts[0] else { panic!() };
        cursor = next.to_vec();
        if cursor == b"0" {
            break;
        }
    }
    let mut listed = text(&bench.run(&["KEYS", "*"]));
    scanned.sort();
    listed.sort();
    (scanned, listed)
}

/// The versions of every key in every database.
fn versions(bench: &mut Bench) -> Vec<u64> {
    let selected = bench.db;
    let mut all = Vec::new();
    for db in 0..DBS {
        bench.db = DbIndex(db);
        all.extend(KEYS.map(|key| bench.watch(key).version));
    }
    bench.db = selected;
    all
}

/// What the model holds at every place of [`versions`].
fn entries(model: &Model) -> Vec<Option<Entry>> {
    let of_db = |db: &BTreeMap<String, Entry>| KEYS.map(|key| db.get(key).cloned());
    model.dbs.iter().flat_map(of_db).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn engines_agree_with_the_model_and_with_each_other(
        draws in prop::collection::vec(draw(), 1..80),
        watched_from in 0..80usize,
    ) {
        let (mut model, mut bench, mut twin) = (Model::new(), Bench::new(), Bench::new());
        let mut watched: Option<(Vec<u64>, Vec<bool>)> = None;
        for (step, draw) in draws.into_iter().enumerate() {
            if step == watched_from {
                watched = Some((versions(&mut bench), vec![false; KEYS.len() * usize::from(DBS)]));
                versions(&mut twin);
            }
            let before = (versions(&mut bench), entries(&model));
            versions(&mut twin);
            let command = apply(&mut model, draw);
            for each in [&mut bench, &mut twin] {
                each.pass_ms(model.now - each.now.0);
                each.db = DbIndex(model.db as u16);
            }
            if let Some((args, expected)) = &command {
                let reply = bench.run(args);
                prop_assert_eq!(&show(&reply), expected, "{:?}", args);
                prop_assert_eq!(&reply, &twin.run(args));
            } else {
                // Only one of the two gives memory back, which must not show.
                let mut effects = Effects::new(EventClass::NONE);
                while twin.engine.keyspace().expire_due(twin.now, 10, &mut effects) {}
            }
            prop_assert_eq!(
                bench.engine.keyspace().digest(bench.now),
                twin.engine.keyspace().digest(twin.now)
            );
            let after = (versions(&mut bench), entries(&model));
            prop_assert_eq!(&after.0, &versions(&mut twin));
            for place in 0..after.0.len() {
                let changed = before.1[place] != after.1[place];
                prop_assert!(
                    !changed || before.0[place] != after.0[place],
                    "{:?} changed {:?} to {:?} unseen", command, before.1[place], after.1[place]
                );
                if let Some((_, any)) = &mut watched {
                    any[place] |= changed;
                }
            }
        }
        if let Some((then, changed)) = watched {
            for (place, now) in versions(&mut bench).into_iter().enumerate() {
                prop_assert!(!changed[place] || then[place] != now, "place {}", place);
            }
        }
        let (scanned, listed) = listings(&mut bench);
        let expected: Vec<String> = model.selected().keys().cloned().collect();
        prop_assert_eq!(&scanned, &expected);
        prop_assert_eq!(&listed, &expected);
    }
}
