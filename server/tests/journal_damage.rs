//! A journal that is cut, zeroed and flipped at every byte of its last records: it is refused,
//! or replayed to a state that it once told; never to another.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast::persist::journal::{
    Journal, Location, LogFile, Manifest, Names, Policy, repair, replay,
};
use holdfast_engine::context::Context;
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::{Engine, table};
use holdfast_engine::host::Host;
use holdfast_engine::time::UnixMillis;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// Commands of all types; the last ones are what is damaged.
const LINES: &[&str] = &[
    "SET text value",
    "RPUSH list a b c",
    "SADD set x 1 y",
    "ZADD zset 1 a 2.5 b",
    "HSET hash f v g w",
    "XADD stream * f v",
    "SETBIT bits 100 1",
    "MSET one 1 other 1",
    "EXPIRE text 100",
    "LMOVE list list LEFT RIGHT",
    "SPOP set",
    "INCR one",
    "EVAL incr-both 2 one other",
    "ZINCRBY zset 3 a",
    "HDEL hash f",
    "DEL list",
    "MSET one 77 other 77",
];

/// Hands records to a journal.
struct Recorder(Arc<Journal>);

impl Host for Recorder {
    fn journal(&self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        self.0.append(write);
    }
}

fn run(engine: &Engine, sequence: u64, line: &str, host: &dyn Host) {
    let script: &[u8] = b"redis.call('incr', KEYS[1]) return redis.call('incr', KEYS[2])";
    let args: Vec<&[u8]> = line
        .split(' ')
        .map(|word| if word == "incr-both" { script } else { word.as_bytes() })
        .collect();
    let row = table().find(args[0]).expect("a known command");
    let mut effects = Effects::new(EventClass::NONE);
    let outcome = engine.run(row, &args, Context::at(NOW, sequence), host, &mut effects);
    assert!(!outcome.reply.is_error(), "{line}: {:?}", outcome.reply);
}

/// A directory that goes when the test is over.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("holdfast-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What was written: the log's length and the state's digest after every command.
struct Told {
    location: Location,
    log: PathBuf,
    states: Vec<(u64, u64)>,
}

fn write_journal(dir: &Path) -> Told {
    let location = Location { dir: dir.to_owned(), names: Names::new(b"a.aof") };
    let file = LogFile::create(&location, 1).unwrap();
    let log = dir.join(location.names.log(1));
    Manifest { base: None, logs: vec![1] }.write(dir, &location.names).unwrap();
    let journal: Arc<Journal> = Arc::default();
    journal.start(file, Policy::Always, Arc::new(|_| {})).unwrap();
    let engine = Engine::new(16, 7);
    engine.keyspace().record_changes(true);
    let host = Recorder(Arc::clone(&journal));
    let mut states = vec![(fs::metadata(&log).unwrap().len(), 0)];
    for (nth, line) in LINES.iter().enumerate() {
        run(&engine, nth as u64 + 1, line, &host);
        let deadline = Instant::now() + Duration::from_secs(10);
        while journal.durable() < journal.appended() {
            assert!(Instant::now() < deadline, "a sync takes this long?");
            std::thread::yield_now();
        }
        let digest = engine.keyspace().content_digest(NOW);
        states.push((fs::metadata(&log).unwrap().len(), digest));
    }
    journal.stop();
    Told { location, log, states }
}

/// Replays the journal as it is now; the digest of what it tells.
fn replayed(told: &Told) -> Result<u64, String> {
    let engine = Engine::new(16, 9);
    let manifest = Manifest::read(&told.location.dir, &told.location.names).unwrap().unwrap();
    match replay(&engine, &told.location, manifest, true, |_| {}) {
        Ok(_) => Ok(engine.keyspace().content_digest(NOW)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_last_records_damaged_at_every_byte() {
    let dir = Dir::new("damage");
    let told = write_journal(&dir.0);
    let whole = fs::read(&told.log).unwrap();
    let (len, last) = *told.states.last().unwrap();
    assert_eq!(whole.len() as u64, len);
    assert_eq!(replayed(&told), Ok(last));
    let from = told.states[LINES.len() - 4].0 as usize;
    let state_at = |len: usize| {
        let before = told.states.iter().rev().find(|(end, _)| *end <= len as u64).unwrap();
        before.1
    };
    let name = told.log.file_name().unwrap().to_str().unwrap();
    for at in from..whole.len() {
        let try_with = |bytes: &[u8], what: &str| {
            fs::write(&told.log, bytes).unwrap();
            let state = replayed(&told);
            if let Err(told) = &state {
                assert!(told.contains(name) && told.contains("at byte"), "{what} at {at}: {told}");
                assert!(told.contains("--repair-journal"), "{told}");
                assert_eq!(fs::read(dir.0.join(name)).unwrap(), bytes, "nothing is touched");
            }
            state
        };
        assert_eq!(try_with(&whole[..at], "cut"), Ok(state_at(at)), "cut at {at}");
        let mut zeroed = whole.clone();
        zeroed[at..].fill(0);
        let expected = if at + 1 == whole.len() { last } else { state_at(at) };
        if let Ok(state) = try_with(&zeroed, "zeroed") {
            // A record whose last bytes were zeros anyway is whole.
            assert!(state == expected || state == state_at(at + 20), "zeroed from {at}");
        }
        for flip in [0x01, 0x80, 0xff, whole[at]] {
            let mut flipped = whole.clone();
            flipped[at] ^= flip;
            match try_with(&flipped, "flipped") {
                Ok(state) if flipped == whole => assert_eq!(state, last),
                // The mark alone, zeroed, takes nothing from the record.
                Ok(state) => assert!(at + 1 == whole.len() && state == last, "flipped at {at}"),
                Err(_) => {}
            }
        }
    }
    // Repaired, it tells all that stood before the damage, and keeps the rest.
    let middle = told.states[LINES.len() - 3].0 as usize;
    let mut damaged = whole.clone();
    damaged[middle + 3] ^= 1;
    fs::write(&told.log, &damaged).unwrap();
    assert!(replayed(&told).is_err());
    let lines = repair(&told.location).unwrap();
    assert!(lines[0].contains(&format!("at byte {middle}")), "{lines:?}");
    assert_eq!(replayed(&told), Ok(state_at(middle)));
    let kept = dir.0.join(format!("a.aof.1.log.cut-at-{middle}"));
    assert_eq!(fs::read(kept).unwrap(), &damaged[middle..]);
}

/// What a log is told after its tail was dropped stands behind what was good.
#[test]
fn a_journal_goes_on_behind_what_was_good() {
    let dir = Dir::new("resume");
    let told = write_journal(&dir.0);
    let whole = fs::read(&told.log).unwrap();
    let last = told.states.last().unwrap().1;
    // Without its mark, with zeros behind it, and with half a record.
    let unmarked = [&whole[..whole.len() - 1], &[0; 50]].concat();
    let half = [&whole[..], &whole[32..50]].concat();
    for bytes in [unmarked, half] {
        fs::write(&told.log, &bytes).unwrap();
        let engine = Engine::new(16, 9);
        let manifest = Manifest::read(&dir.0, &told.location.names).unwrap().unwrap();
        let found = replay(&engine, &told.location, manifest, true, |_| {}).unwrap();
        assert_eq!(engine.keyspace().content_digest(NOW), last);
        let journal: Arc<Journal> = Arc::default();
        journal.start(found.file, Policy::EverySecond, Arc::new(|_| {})).unwrap();
        engine.keyspace().record_changes(true);
        run(&engine, 1000, "SET behind it", &Recorder(Arc::clone(&journal)));
        journal.stop();
        let now = engine.keyspace().content_digest(NOW);
        assert_ne!(now, last);
        assert_eq!(replayed(&told), Ok(now));
    }
}
