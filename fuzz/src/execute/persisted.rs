//! What a journal makes of the proposals: at some moment the first engine's state is written as
//! a file and what follows is recorded; read back and replayed it is the same state. And a
//! replica that is handed such a file goes on in step with the others.

use std::sync::Mutex;

use holdfast::persist::journal::Player;
use holdfast::persist::rdb::{self, Expired, ReadOptions};
use holdfast_engine::context::Context;
use holdfast_engine::dump::Sink;
use holdfast_engine::dump::record::Detail;
use holdfast_engine::host::Alone;
use holdfast_engine::script::Sha;
use holdfast_engine::time::UnixMillis;

use super::Side;

/// The records of changes since the file was written.
#[derive(Default)]
pub(super) struct Records(Mutex<Vec<Vec<u8>>>);

impl Records {
    /// Takes a record from the engine.
    pub(super) fn push(&self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let mut record = Vec::new();
        write(&mut record);
        self.0.lock().expect("no thread has panicked").push(record);
    }
}

/// Writes all that a side holds as a file; `at_cut` runs at the moment that is written.
fn written(side: &Side, detail: Detail, at_cut: impl FnOnce()) -> Vec<u8> {
    let keyspace = side.engine.keyspace();
    let mut snapshot = keyspace
        .begin_snapshot(detail, Sink::compressing(), &Alone, at_cut)
        .expect("one at a time");
    let mut file = Vec::new();
    rdb::write(keyspace, &mut snapshot, &[], true, &mut file, |_| Ok(())).expect("memory suffices");
    file
}

/// Reads such a file into a new engine.
fn read(file: &[u8], seed: u64) -> Side {
    let side = Side::new(seed);
    let options = ReadOptions { now: UnixMillis(i64::MIN), expired: Expired::Kept, merge: false };
    rdb::read(side.engine.keyspace(), file, options, |_, _| {}).expect("it was just written");
    side
}

/// Begins a journal: the file it begins with; what follows is recorded.
pub(super) fn begin(side: &Side) -> Vec<u8> {
    written(side, Detail::Plain, || {
        side.world.records.0.lock().expect("no thread has panicked").clear();
        side.engine.keyspace().record_changes(true);
    })
}

/// The journal holds what the side holds.
pub(super) fn check(side: &Side, base: &[u8], context: Context) {
    let again = read(base, 5);
    let mut player = Player::new(&again.engine);
    for record in &*side.world.records.0.lock().expect("no thread has panicked") {
        player.play(record).expect("a record that was just written");
    }
    assert_eq!(
        again.engine.keyspace().content_digest(context.now),
        side.engine.keyspace().content_digest(context.now),
        "the journal replays to another state"
    );
}

/// A replica that begins with what this side holds now. The names of scripts are resolved
/// before a proposal is made: which of them a node knows is not part of its state.
pub(super) fn replica(side: &Side, seed: u64, context: Context) -> Side {
    let replica = read(&written(side, Detail::Replica, || {}), seed);
    let digest = |side: &Side| side.engine.keyspace().digest(context.now);
    assert_eq!(digest(&replica), digest(side), "the replica begins with another state");
    for body in super::grammar::SCRIPTS {
        if side.engine.scripts().find(&Sha::of(body)).is_some() {
            replica.engine.load_script(body).expect("the other has compiled it");
        }
    }
    replica
}
