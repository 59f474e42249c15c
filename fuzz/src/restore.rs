//! RESTORE of payloads that nobody vouches for: refused, or a value that every command can take.
//!
//! The frame's checksum is put right, for it keeps out accidents and nobody who can compute it.

use std::sync::LazyLock;

use holdfast_engine::Reply;
use holdfast_engine::command::Handler;
use holdfast_engine::context::Context;
use holdfast_engine::dump::{crc64, payload};
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::{Engine, table};
use holdfast_engine::host::Alone;
use holdfast_engine::time::UnixMillis;

/// What the payload's frame says: any version that is read will do.
const VERSION: u16 = 11;
/// Bytes of a payload: longer ones only take longer.
const BODY_LEN_MAX: usize = 4096;

/// Values of every type and encoding, made by these.
const MAKERS: &[&[&str]] = &[
    &["SET k some-text"],
    &["SET k 12345"],
    &["RPUSH k 1 two 333333 four"],
    &["CONFIG list-max-listpack-size 2", "RPUSH k 1 two 333333 four five-five-five"],
    &["SADD k 1 2 30000 4000000000"],
    &["SADD k 1 two three"],
    &["CONFIG set-max-listpack-entries 2", "SADD k 1 two three four"],
    &["HSET k f1 1 f2 two f3 333333"],
    &["CONFIG hash-max-listpack-entries 2", "HSET k f1 1 f2 two f3 333333"],
    &["HSET k f1 1 f2 two f3 333333", "HPEXPIRE k 100000 FIELDS 2 f1 f3"],
    &["ZADD k 1 one 2.5 two -inf three"],
    &["CONFIG zset-max-listpack-entries 2", "ZADD k 1 one 2.5 two -inf three"],
    &[
        "CONFIG stream-node-max-entries 3",
        "XADD k 1-1 a 1 b 2",
        "XADD k 1-2 a 3 b 4",
        "XADD k 2-1 other field",
        "XADD k 3-1 a 5 b 6",
        "XDEL k 1-2",
        "XGROUP CREATE k g 0",
        "XREADGROUP GROUP g c1 COUNT 2 STREAMS k >",
        "XREADGROUP GROUP g c2 STREAMS k >",
    ],
    &["PFADD k a b c d e"],
    &["GEOADD k 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"],
];

/// What is asked of a value and then done to it; those of other types answer WRONGTYPE.
const USES: &[&str] = &[
    "TYPE k",
    "OBJECT ENCODING k",
    "SORT k BY nosort",
    "GET k",
    "GETRANGE k 0 -1",
    "BITCOUNT k",
    "PFCOUNT k",
    "LLEN k",
    "LRANGE k 0 -1",
    "LPOS k two",
    "LINDEX k -1",
    "SCARD k",
    "SMEMBERS k",
    "SISMEMBER k two",
    "SRANDMEMBER k -5",
    "SSCAN k 0",
    "SINTER k k",
    "HLEN k",
    "HGETALL k",
    "HRANDFIELD k -5 WITHVALUES",
    "HSCAN k 0",
    "HPTTL k FIELDS 2 f1 f2",
    "ZCARD k",
    "ZRANGE k 0 -1 WITHSCORES",
    "ZRANK k two",
    "ZRANGEBYLEX k - +",
    "ZRANGE k -inf 5 BYSCORE",
    "ZRANDMEMBER k -5",
    "ZSCAN k 0",
    "ZUNION 2 k k",
    "GEOPOS k Palermo",
    "XLEN k",
    "XRANGE k - +",
    "XREVRANGE k + -",
    "XINFO STREAM k FULL",
    "XINFO GROUPS k",
    "XPENDING k g",
    "XPENDING k g - + 10",
    "COPY k copy REPLACE",
    // Changes.
    "APPEND k more",
    "SETRANGE k 3 x",
    "INCR k",
    "PFADD k z",
    "LSET k 0 x",
    "LINSERT k AFTER two x",
    "RPUSH k a-longer-element",
    "LPUSH k 7",
    "LREM k 0 two",
    "LMOVE k k LEFT RIGHT",
    "LPOP k",
    "RPOP k",
    "LTRIM k 1 -2",
    "SADD k 5 text",
    "SREM k two",
    "SPOP k",
    "HSET k f9 v f1 1",
    "HINCRBY k f1 1",
    "HDEL k f2",
    "HPEXPIRE k 5000 FIELDS 1 f3",
    "ZADD k 7 new 8 two",
    "ZINCRBY k 1 one",
    "ZREM k two",
    "ZPOPMIN k",
    "ZPOPMAX k",
    "ZREMRANGEBYRANK k 0 0",
    "XADD k * f v",
    "XREADGROUP GROUP g c9 STREAMS k >",
    "XCLAIM k g c3 0 1-1",
    "XACK k g 1-1",
    "XAUTOCLAIM k g c4 0 0",
    "XTRIM k MAXLEN 1",
    "XDEL k 3-1",
    "XGROUP DESTROY k g",
];

struct Bench {
    engine: Engine,
    sequence: u64,
}

impl Bench {
    fn new() -> Self {
        Self { engine: Engine::new(1, 7), sequence: 0 }
    }

    fn run(&mut self, args: &[&[u8]]) -> Reply {
        let mut row = table().find(args[0]).expect("a command of the table");
        if matches!(row.handler, Handler::Container) {
            row = table().find_sub(row, args[1]).expect("a subcommand of the table");
        }
        self.sequence += 1;
        let now = UnixMillis(1_700_000_000_000 + self.sequence as i64);
        let context = Context::at(now, self.sequence);
        self.engine.run(row, args, context, &Alone, &mut Effects::new(EventClass(u32::MAX))).reply
    }

    fn line(&mut self, line: &str) -> Reply {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        if args[0] == b"CONFIG" {
            let value = line.split(' ').next_back().and_then(|text| text.parse().ok());
            let name = line.split(' ').nth(1).unwrap_or_default();
            assert!(self.engine.keyspace().limits().set(name, value.expect("a number")));
            return Reply::Ok;
        }
        self.run(&args)
    }

    /// The payload of `k`, if there is one.
    fn dumped(&mut self) -> Option<Vec<u8>> {
        match self.line("DUMP k") {
            Reply::Bulk(payload) => Some(payload.to_vec()),
            _ => None,
        }
    }
}

/// Type and value as DUMP has them, of every maker.
static BODIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let body = |lines: &&[&str]| {
        let mut bench = Bench::new();
        for line in *lines {
            assert!(!bench.line(line).is_error(), "{line}");
        }
        let payload = bench.dumped().expect("a value");
        payload::unframe(&payload).expect("a frame").to_vec()
    };
    MAKERS.iter().map(body).collect()
});

/// The first byte chooses a value, and what follows is edits of it, four bytes each; or, if there
/// is no such value, what follows is all.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let body = match BODIES.get(usize::from(*first)) {
        Some(body) => edited(body.clone(), rest),
        None => rest.to_vec(),
    };
    if body.is_empty() || body.len() > BODY_LEN_MAX {
        return;
    }
    let mut bench = Bench::new();
    if bench.run(&[b"RESTORE", b"k", b"0", &framed(&body)]).is_error() {
        assert!(bench.dumped().is_none(), "what is refused leaves nothing behind");
        return;
    }
    let before = bench.dumped();
    if let Some(payload) = &before {
        assert!(
            !bench.run(&[b"RESTORE", b"again", b"0", payload]).is_error(),
            "what is told is taken"
        );
        bench.line("RENAME again k");
        assert_eq!(bench.dumped(), before, "and tells the same");
    }
    for line in USES {
        bench.line(line);
    }
    if let Some(payload) = bench.dumped() {
        let taken = bench.run(&[b"RESTORE", b"k", b"0", &payload, b"REPLACE"]);
        assert!(!taken.is_error(), "{taken:?}");
    }
    bench.line("DEL k");
}

fn edited(mut body: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % body.len().max(1);
        match edit[0] % 5 {
            0 if at < body.len() => body[at] = edit[3],
            1 if at < body.len() => body[at] = body[at].wrapping_add(edit[3] % 5).wrapping_sub(2),
            2 if at < body.len() => drop(body.remove(at)),
            3 => body.insert(at, edit[3]),
            4 => body.truncate(at),
            _ => {}
        }
    }
    body
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut payload = [body, &VERSION.to_le_bytes()].concat();
    let crc = crc64(0, &payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    payload
}
