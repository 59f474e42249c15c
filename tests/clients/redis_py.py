"""redis-py doing ordinary work. Usage: redis_py.py PORT"""
import sys
import threading
import time

import redis

port = int(sys.argv[1])


def check(name, got, want=True):
    if got != want:
        sys.exit(f"redis-py: {name}: got {got!r}, expected {want!r}")


def client(**options):
    return redis.Redis(port=port, decode_responses=True, socket_timeout=20, **options)


def strings(r):
    check("ping", r.ping())
    check("set", r.set("k", "v", ex=100))
    check("get", r.get("k"), "v")
    check("ttl", 0 < r.ttl("k") <= 100)
    check("set nx", r.set("k", "w", nx=True), None)
    check("set get", r.set("k", "w", get=True), "v")
    check("getex", r.getex("k", persist=True), "w")
    check("getdel", r.getdel("k"), "w")
    check("incr", [r.incr("n"), r.incrby("n", 10), r.decr("n")], [1, 11, 10])
    check("float", r.incrbyfloat("f", 1.5), 1.5)
    check("mset", r.mset({f"m{i}": i for i in range(50)}))
    check("mget", r.mget("m1", "nosuch", "m3"), ["1", None, "3"])
    check("append", r.append("a", "abc"), 3)
    check("getrange", r.getrange("a", 1, -1), "bc")
    raw = redis.Redis(port=port)
    check("binary", raw.set(b"\x00\xff", bytes(range(256))))
    check("binary back", raw.get(b"\x00\xff"), bytes(range(256)))
    big = b"x" * (8 << 20)
    check("8 MiB", raw.set("big", big))
    check("8 MiB back", raw.get("big") == big)
    check("scan", len(set(r.scan_iter("m*", count=7))), 50)
    check("type", r.type("a"), "string")
    check("rename", r.rename("a", "b"))
    check("delete", r.delete("b", "nosuch"), 1)
    check("expiry", r.set("short", "x", px=30))
    time.sleep(0.1)
    check("expired", r.get("short"), None)
    try:
        r.incr("m_text" if r.set("m_text", "abc") else "")
        sys.exit("redis-py: an error was lost")
    except redis.ResponseError as e:
        check("error text", str(e), "value is not an integer or out of range")


def pipelines(r):
    pipe = r.pipeline(transaction=False)
    for i in range(1000):
        pipe.set(f"p{i}", i).get(f"p{i}")
    replies = pipe.execute()
    check("pipeline", replies[1::2], [str(i) for i in range(1000)])
    pipe = r.pipeline(transaction=True)
    pipe.set("t", 1).incr("t").get("t")
    check("transaction", pipe.execute(), [True, 2, "2"])

    def transfer(pipe):
        have = int(pipe.get("from") or 0)
        pipe.multi()
        pipe.set("from", have - 1).incr("to")

    r.mset({"from": 100, "to": 0})
    workers = [threading.Thread(target=lambda: [client().transaction(transfer, "from", "to")
                                                for _ in range(10)]) for _ in range(5)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    check("WATCH keeps sums", (r.get("from"), r.get("to")), ("50", "50"))
    with r.pipeline() as pipe:
        pipe.watch("watched")
        r.set("watched", "changed")
        pipe.multi()
        pipe.set("watched", "mine")
        try:
            pipe.execute()
            sys.exit("redis-py: WATCH did not see the change")
        except redis.WatchError:
            pass


def scripts(r):
    script = r.register_script("return {KEYS[1], ARGV[1], redis.call('incr', KEYS[1])}")
    check("script", script(keys=["s"], args=["x"]), ["s", "x", 1])
    check("script by sha", script(keys=["s"], args=["x"])[2], 2)
    r.script_flush()
    check("script after flush", script(keys=["s"], args=["x"])[2], 3)
    check("eval", r.eval("return redis.call('get', KEYS[1])", 1, "s"), "3")


def pubsub(r):
    p = r.pubsub()
    p.subscribe("ch")
    p.psubscribe("news.*")
    check("subscribed", [p.get_message(timeout=10)["type"] for _ in range(2)],
          ["subscribe", "psubscribe"])
    check("publish", [r.publish("ch", "hi"), r.publish("news.x", "n")], [1, 1])
    got = [p.get_message(timeout=10) for _ in range(2)]
    check("messages", [(m["type"], m["data"]) for m in got], [("message", "hi"), ("pmessage", "n")])
    check("ping while subscribed", p.ping() is not False)
    p.close()


def locks(r):
    counter = {"n": 0}

    def work():
        mine = client()
        for _ in range(5):
            with mine.lock("lock:counter", timeout=10, blocking_timeout=30, sleep=0.005):
                n = counter["n"]
                time.sleep(0.001)
                counter["n"] = n + 1

    workers = [threading.Thread(target=work) for _ in range(6)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    check("Lock excludes", counter["n"], 30)
    lock = r.lock("lock:one", timeout=5)
    check("acquire", lock.acquire(blocking=False))
    check("held", r.lock("lock:one", timeout=5).acquire(blocking=False), False)
    check("extend", lock.extend(10))
    check("reacquire", lock.reacquire())
    check("owned", lock.owned())
    lock.release()
    try:
        lock.release()
        sys.exit("redis-py: released twice")
    except redis.exceptions.LockError:
        pass
    short = r.lock("lock:short", timeout=0.05)
    short.acquire()
    time.sleep(0.15)
    try:
        short.release()
        sys.exit("redis-py: released a lock that had run out")
    except redis.exceptions.LockNotOwnedError:
        pass


def server(r):
    check("info", r.info("server")["redis_version"].startswith("7."))
    check("dbsize", r.dbsize() > 0)
    check("config", r.config_get("maxclients"), {"maxclients": "10000"})
    check("client list", any(c["name"] == "checker" for c in client(client_name="checker").client_list()))
    check("command", r.command_count() > 100)
    check("select", client(db=3).set("other", "1"))
    check("databases apart", r.get("other"), None)


for protocol in (2, 3):
    r = client(protocol=protocol)
    r.flushall()
    for part in (strings, pipelines, scripts, pubsub, locks, server):
        part(r)
    r.flushall()
print("redis-py: all well, in RESP2 and RESP3")
