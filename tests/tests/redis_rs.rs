//! redis-rs, a client we did not write, doing ordinary work.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use holdfast_tests::server::{self, Server};
use redis::{Commands, ConnectionLike, RedisError, TypedCommands};

fn connect(server: &Server, options: &str) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{}/{options}", server.addr())).unwrap();
    client.get_connection().unwrap()
}

#[test]
fn ordinary_work() {
    for options in ["", "?protocol=resp3"] {
        server::each(&[], |server| {
            let mut con = connect(server, options);
            assert!(con.check_connection());
            strings(&mut con);
            pipelines(&mut con);
            scripts(&mut con);
            errors(&mut con);
        });
    }
}

fn strings(con: &mut redis::Connection) {
    TypedCommands::set(con, "k", "v").unwrap();
    assert_eq!(TypedCommands::get(con, "k").unwrap().as_deref(), Some("v"));
    assert_eq!(TypedCommands::get(con, "nosuch").unwrap(), None);
    let options = redis::SetOptions::default()
        .conditional_set(redis::ExistenceCheck::NX)
        .with_expiration(redis::SetExpiry::PX(10_000));
    let taken: Option<String> =
        Commands::set_options(con, "lock", "token", options.clone()).unwrap();
    assert_eq!(taken.as_deref(), Some("OK"));
    let taken: Option<String> = Commands::set_options(con, "lock", "other", options).unwrap();
    assert_eq!(taken, None);
    let ttl: i64 = Commands::pttl(con, "lock").unwrap();
    assert!(ttl > 0 && ttl <= 10_000);
    let n: i64 = Commands::incr(con, "n", 41).unwrap();
    assert_eq!(n, 41);
    let bytes: Vec<u8> = (0..=255).collect();
    let () = Commands::set(con, &bytes, &bytes).unwrap();
    let back: Vec<u8> = Commands::get(con, &bytes).unwrap();
    assert_eq!(back, bytes);
    let () = Commands::mset(con, &[("a", 1), ("b", 2)]).unwrap();
    let got: Vec<Option<i64>> = Commands::mget(con, &["a", "nosuch", "b"]).unwrap();
    assert_eq!(got, [Some(1), None, Some(2)]);
    let keys: Vec<String> = Commands::scan_match::<_, String>(con, "[ab]")
        .unwrap()
        .collect::<Result<_, RedisError>>()
        .unwrap();
    assert_eq!(keys.len(), 2);
    let limits: HashMap<String, String> =
        redis::cmd("CONFIG").arg("GET").arg("maxclients").query(con).unwrap();
    assert_eq!(limits["maxclients"], "10000");
}

fn pipelines(con: &mut redis::Connection) {
    let (one, two): (i64, i64) =
        redis::pipe().set("p", 1).ignore().incr("p", 1).incr("p", 1).query(con).unwrap();
    assert_eq!((one, two), (2, 3));
    let (value,): (i64,) = redis::pipe().atomic().set("p", 7).ignore().get("p").query(con).unwrap();
    assert_eq!(value, 7);
    let (doubled,): (i64,) = redis::transaction(con, &["p"], |con, pipe| {
        let old: i64 = Commands::get(con, "p")?;
        pipe.set("p", old * 2).ignore().get("p").query(con)
    })
    .unwrap();
    assert_eq!(doubled, 14);
}

fn scripts(con: &mut redis::Connection) {
    let release = redis::Script::new(
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
    );
    let refused: i64 = release.key("lock").arg("other").invoke(con).unwrap();
    let released: i64 = release.key("lock").arg("token").invoke(con).unwrap();
    assert_eq!((refused, released), (0, 1));
    let () = redis::cmd("SCRIPT").arg("FLUSH").query(con).unwrap();
    let again: i64 = release.key("lock").arg("token").invoke(con).unwrap();
    assert_eq!(again, 0);
}

fn errors(con: &mut redis::Connection) {
    let () = Commands::set(con, "text", "abc").unwrap();
    let e = Commands::incr::<_, _, i64>(con, "text", 1).unwrap_err();
    assert!(e.to_string().contains("value is not an integer or out of range"), "{e}");
    let e = redis::cmd("NOSUCH").query::<()>(con).unwrap_err();
    assert!(e.to_string().contains("unknown command"), "{e}");
}

#[test]
fn publish_and_subscribe() {
    server::each(&[], |server| {
        let mut listener = connect(server, "");
        let mut talker = connect(server, "");
        let mut pubsub = listener.as_pubsub();
        pubsub.subscribe("ch").unwrap();
        pubsub.psubscribe("n.*").unwrap();
        let heard: i64 = Commands::publish(&mut talker, "ch", "one").unwrap();
        let also: i64 = Commands::publish(&mut talker, "n.x", "two").unwrap();
        assert_eq!((heard, also), (1, 1));
        let first = pubsub.get_message().unwrap();
        assert_eq!(first.get_payload::<String>().unwrap(), "one");
        let second = pubsub.get_message().unwrap();
        assert_eq!(second.get_pattern::<String>().unwrap(), "n.*");
        assert_eq!(second.get_payload::<String>().unwrap(), "two");
    });
}
