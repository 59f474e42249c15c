//! What must hold after each command and at the end.

use holdfast_engine::Reply;
use holdfast_engine::command::Handler;
use holdfast_engine::context::Context;
use holdfast_engine::engine::table;
use holdfast_engine::time::DbIndex;

use super::{Call, DATABASES, Side};

/// Commands that, as in Redis, fail a WATCH of their key though they found nothing to do.
const STAMPS_WITHOUT_CHANGE: &[&str] = &["ltrim"];

/// A reader changes nothing; a command that fails changes nothing; one that changes something
/// says so, or it would be missing from the journal.
pub(super) fn promises(call: &Call, reply: &Reply, unchanged: bool, changes: u64) {
    if matches!(call.row.handler, Handler::Read(_) | Handler::Wait(_)) {
        assert!(unchanged, "a read changed something: {call}");
    }
    if matches!(reply, Reply::Error(_)) && !call.is_script() {
        assert!(unchanged, "failed, and yet changed something: {call}\n{reply:?}");
        assert_eq!(changes, 0, "failed, and yet counts changes: {call}");
    }
    let stamped = call.is_script() || STAMPS_WITHOUT_CHANGE.contains(&call.row.name);
    assert!(unchanged || changes > 0 || stamped, "changed something unsaid: {call}\n{reply:?}");
}

/// Both engines are in one state and told the world the same.
pub(super) fn same(one: &Side, other: &Side, context: Context, calls: &str) {
    let (left, right) = (one.engine.keyspace(), other.engine.keyspace());
    assert_eq!(left.digest(context.now), right.digest(context.now), "states differ: {calls}");
    assert_eq!(one.effects.changes, other.effects.changes, "changes differ: {calls}");
    assert_eq!(one.effects.wait, other.effects.wait, "waits differ: {calls}");
    assert_eq!(one.told(), other.told(), "notices differ: {calls}");
}

fn ask(side: &mut Side, context: Context, args: &[&[u8]]) -> Reply {
    let row = table().find(args[0]).expect("a command of the engine");
    let args = args.iter().map(|arg| arg.to_vec()).collect();
    side.run(&Call { row, args }, context)
}

fn keys(side: &mut Side, context: Context) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = match ask(side, context, &[b"keys", b"*"]) {
        Reply::Bulks(bulks) => bulks.iter().map(|key| key.unwrap_or_default().to_vec()).collect(),
        Reply::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Reply::Bulk(key) => key.to_vec(),
                other => panic!("KEYS names keys, not {other:?}"),
            })
            .collect(),
        other => panic!("KEYS answers a list, not {other:?}"),
    };
    keys.sort();
    keys
}

fn databases(context: Context) -> impl Iterator<Item = Context> {
    (0..DATABASES).map(move |db| Context { db: DbIndex(db), ..context })
}

/// What TTL, EXPIRETIME, INFO keyspace, KEYS and SCAN say of the keys agrees, and no collection
/// stands empty.
pub(super) fn ttls(one: &mut Side, other: &mut Side, context: Context) {
    let mut passed = 0;
    while one.engine.keyspace().expire_due(context.now, 100, &mut one.effects) {
        passed += 1;
        assert!(passed < 1000, "expiry comes to an end");
    }
    assert!(!one.engine.keyspace().has_due(context.now));
    for context in databases(context) {
        let found = keys(one, context);
        assert_eq!(found, keys(other, context), "keys differ");
        assert_eq!(found, scanned(one, context), "SCAN finds what KEYS does");
        let mut expiring = 0;
        let mut hashes = 0;
        for key in &found {
            let Reply::Integer(ttl_ms) = ask(one, context, &[b"pttl", key]) else {
                panic!("PTTL answers a number")
            };
            let at = ask(one, context, &[b"pexpiretime", key]);
            let expected = if ttl_ms == -1 { -1 } else { context.now.0 + ttl_ms };
            assert_eq!(at, Reply::Integer(expected), "{}", key.escape_ascii());
            assert!(ttl_ms == -1 || ttl_ms > 0, "a key that shows has time left: {ttl_ms}");
            expiring += usize::from(ttl_ms > 0);
            hashes += usize::from(holds_elements(one, context, key) == "hash");
        }
        let sizes = one.engine.keyspace().sizes(context.now);
        let size = sizes.into_iter().find(|(db, _)| *db == context.db).unwrap_or_default().1;
        assert_eq!(size.keys, found.len());
        // The expiry of a hash's field shares the record's.
        assert!((expiring..=expiring + hashes).contains(&size.expires), "{size:?} {expiring}");
    }
}

/// The type of a key, which holds something.
fn holds_elements(side: &mut Side, context: Context, key: &[u8]) -> String {
    let Reply::Simple(kind) = ask(side, context, &[b"type", key]) else {
        panic!("TYPE answers a word")
    };
    let count = match &*kind {
        "list" => "llen",
        "set" => "scard",
        "zset" => "zcard",
        // HLEN counts fields whose time has come until they are removed.
        _ => return kind.to_string(),
    };
    let len = ask(side, context, &[count.as_bytes(), key]);
    assert!(matches!(len, Reply::Integer(1..)), "an empty {kind} stands at {}", key.escape_ascii());
    kind.to_string()
}

fn scanned(side: &mut Side, context: Context) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut cursor = b"0".to_vec();
    loop {
        let Reply::Array(pair) = ask(side, context, &[b"scan", &cursor, b"count", b"3"]) else {
            panic!("SCAN answers a pair")
        };
        match &pair[..] {
            [Reply::Bulk(next), Reply::Bulks(bulks)] => {
                found.extend(bulks.iter().map(|key| key.unwrap_or_default().to_vec()));
                cursor = next.to_vec();
            }
            [Reply::Bulk(next), Reply::Array(items)] => {
                for item in items {
                    let Reply::Bulk(key) = item else { panic!("SCAN names keys") };
                    found.push(key.to_vec());
                }
                cursor = next.to_vec();
            }
            other => panic!("SCAN answers a cursor and keys, not {other:?}"),
        }
        if cursor == b"0" {
            found.sort();
            return found;
        }
    }
}

/// Once every key is deleted, nothing is left of any.
pub(super) fn emptied(side: &mut Side, context: Context) {
    for context in databases(context) {
        for key in keys(side, context) {
            assert_eq!(ask(side, context, &[b"del", &key]), Reply::Integer(1));
        }
        assert_eq!(ask(side, context, &[b"randomkey"]), Reply::Nil);
    }
    while side.engine.keyspace().expire_due(context.now, 1000, &mut side.effects) {}
    assert_eq!(side.engine.keyspace().sizes(context.now), []);
    // What belongs to no key, as the counter of tokens, is all the digest knows now.
    let emptied = side.engine.keyspace().digest(context.now);
    ask(side, context, &[b"flushall"]);
    assert_eq!(side.engine.keyspace().digest(context.now), emptied);
}
