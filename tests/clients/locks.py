"""Lock libraries of Python, unmodified. Usage: locks.py PORT PORT PORT (libraries that are missing are told)"""
import importlib
import sys
import threading
import time

import redis

ports = [int(port) for port in sys.argv[1:]]
urls = [f"redis://127.0.0.1:{port}/0" for port in ports]
library = ""


def check(name, got, want=True):
    if got != want:
        sys.exit(f"{library}: {name}: got {got!r}, expected {want!r}")


def client(port=ports[0], **options):
    return redis.Redis(port=port, socket_timeout=20, **options)


def counted(enter, workers=6, rounds=15):
    """What several threads add up under a lock, not atomically, and what they should."""
    total = [0]

    def work():
        for _ in range(rounds):
            with enter():
                seen = total[0]
                time.sleep(0.001)
                total[0] = seen + 1

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    check("exclusion", total[0], workers * rounds)


def redis_py():
    r = client()
    lock = r.lock("lock:py", timeout=10, blocking_timeout=0.2)
    check("acquire", lock.acquire())
    check("contended", r.lock("lock:py", timeout=10).acquire(blocking=False), False)
    check("locked", lock.locked() and lock.owned())
    check("extend", lock.extend(5) and r.pttl("lock:py") > 10_000)
    check("reacquire", lock.reacquire() and r.pttl("lock:py") <= 10_000)
    lock.release()
    check("released", r.exists("lock:py"), 0)
    lock = r.lock("lock:py", timeout=0.05)
    lock.acquire()
    time.sleep(0.1)
    try:
        lock.release()
        check("a lock that expired is released", False)
    except redis.exceptions.LockNotOwnedError:
        pass
    counted(lambda: client().lock("lock:py", timeout=30, sleep=0.005))
    return r


def python_redis_lock():
    import redis_lock

    r = client()
    lock = redis_lock.Lock(r, "prl", expire=3, auto_renewal=True)
    check("acquire", lock.acquire(blocking=False))
    check("contended", redis_lock.Lock(r, "prl", expire=3).acquire(blocking=False), False)
    time.sleep(4)
    check("renewed", lock.locked())
    lock.extend(expire=10)
    lock.release()
    check("released", r.exists("lock:prl"), 0)
    # Waiting by BLPOP of a signal.
    counted(lambda: redis_lock.Lock(client(), "prl", expire=30))
    redis_lock.reset_all(r)


def pottery():
    from pottery import Redlock, synchronize

    masters = {client(port) for port in ports}
    lock = Redlock(key="pottery", masters=masters, auto_release_time=10)
    check("acquire", lock.acquire(blocking=False))
    other = Redlock(key="pottery", masters=masters, auto_release_time=10)
    check("contended", other.acquire(blocking=False), False)
    check("locked", lock.locked() > 0)
    lock.extend()
    lock.release()
    check("released", lock.locked(), 0)
    counted(lambda: Redlock(key="pottery", masters=masters, auto_release_time=30), rounds=5)

    @synchronize(key="pottery-sync", masters=masters, auto_release_time=10)
    def add(a, b):
        return a + b

    check("synchronize", add(1, 2), 3)


def redlock_py():
    import redlock

    nodes = [{"host": "127.0.0.1", "port": port} for port in ports]
    manager = redlock.Redlock(nodes, retry_count=1)
    lock = manager.lock("redlock-py", 10_000)
    check("acquire", bool(lock) and lock.validity > 9_000)
    check("contended", manager.lock("redlock-py", 10_000), False)
    manager.unlock(lock)
    lock = manager.lock("redlock-py", 10_000)
    check("acquired again", bool(lock))
    manager.unlock(lock)


def recipes():
    """What is written by hand: SETNX and EXPIRE, WATCH and MULTI, native compare-and-delete."""
    r = client()
    check("setnx", r.setnx("hand", "me") and r.expire("hand", 10))
    check("setnx contended", r.setnx("hand", "you"), False)
    check("pttl", 0 < r.pttl("hand") <= 10_000)
    check("getset", r.getset("hand", "me2"), b"me")
    with r.pipeline() as p:
        p.watch("hand")
        check("watch", p.get("hand"), b"me2")
        p.multi()
        p.delete("hand")
        check("exec", p.execute(), [1])
    with r.pipeline() as p:
        r.set("hand", "me", px=10_000, nx=True)
        p.watch("hand")
        r.set("hand", "successor")
        p.multi()
        p.delete("hand")
        try:
            p.execute()
            check("a successor's lock is deleted", False)
        except redis.WatchError:
            pass
    release = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"
    check("noscript", script_fallback(r, release, "hand", "me"), 0)
    check("released", script_fallback(r, release, "hand", "successor"), 1)


def script_fallback(r, source, key, value):
    import hashlib

    sha = hashlib.sha1(source.encode()).hexdigest()
    try:
        return r.evalsha(sha, 1, key, value)
    except redis.exceptions.NoScriptError:
        return r.eval(source, 1, key, value)


# Of the shape of Redisson's RLock: a hash with a field per owner, counted, with a channel for waiters.
LOCK = """
if redis.call('exists', KEYS[1]) == 0 or redis.call('hexists', KEYS[1], ARGV[2]) == 1 then
  redis.call('hincrby', KEYS[1], ARGV[2], 1)
  redis.call('pexpire', KEYS[1], ARGV[1])
  return nil
end
return redis.call('pttl', KEYS[1])"""
UNLOCK = """
if redis.call('hexists', KEYS[1], ARGV[3]) == 0 then return nil end
if redis.call('hincrby', KEYS[1], ARGV[3], -1) > 0 then
  redis.call('pexpire', KEYS[1], ARGV[2])
  return 0
end
redis.call('del', KEYS[1])
redis.call('publish', KEYS[2], ARGV[1])
return 1"""
# Of RFairLock: a list of waiters and the time until which each is waited for.
FAIR = """
while true do
  local first = redis.call('lindex', KEYS[2], 0)
  if first == false then break end
  if tonumber(redis.call('zscore', KEYS[3], first)) <= tonumber(ARGV[3]) then
    redis.call('zrem', KEYS[3], first)
    redis.call('lpop', KEYS[2])
  else
    break
  end
end
if redis.call('exists', KEYS[1]) == 0 and
  (redis.call('exists', KEYS[2]) == 0 or redis.call('lindex', KEYS[2], 0) == ARGV[2]) then
  redis.call('lpop', KEYS[2])
  redis.call('zrem', KEYS[3], ARGV[2])
  redis.call('hset', KEYS[1], ARGV[2], 1)
  redis.call('pexpire', KEYS[1], ARGV[1])
  return nil
end
if redis.call('zscore', KEYS[3], ARGV[2]) == false then
  redis.call('zadd', KEYS[3], tonumber(ARGV[3]) + 5000, ARGV[2])
  redis.call('rpush', KEYS[2], ARGV[2])
end
return redis.call('pttl', KEYS[1])"""
# Of RPermitExpirableSemaphore and RMapCache: packed and encoded values.
PACKED = """
local value = struct.pack('dLc0', 12.5, string.len(ARGV[1]), ARGV[1])
redis.call('hset', KEYS[1], 'v', value)
local number, text = struct.unpack('dLc0', redis.call('hget', KEYS[1], 'v'))
return cjson.encode({number = number, text = text, list = {1, 2}})"""


def redisson_shaped():
    r = client(decode_responses=True)
    lock, unlock, fair = (r.register_script(source) for source in (LOCK, UNLOCK, FAIR))
    heard = r.pubsub()
    heard.subscribe("redisson_lock__channel:{r}")
    heard.get_message(timeout=5)
    check("lock", lock(keys=["{r}"], args=[30_000, "a:1"]), None)
    check("again", lock(keys=["{r}"], args=[30_000, "a:1"]), None)
    check("contended", lock(keys=["{r}"], args=[30_000, "b:1"]) > 29_000)
    keys = ["{r}", "redisson_lock__channel:{r}"]
    check("one level", unlock(keys=keys, args=[0, 30_000, "a:1"]), 0)
    check("not the owner", unlock(keys=keys, args=[0, 30_000, "b:1"]), None)
    check("unlock", unlock(keys=keys, args=[0, 30_000, "a:1"]), 1)
    check("told", (heard.get_message(timeout=5) or {}).get("data"), "0")
    keys = ["{f}", "redisson_lock_queue:{f}", "redisson_lock_timeout:{f}"]
    check("fair", fair(keys=keys, args=[30_000, "a", 1_000]), None)
    for owner in "bc":
        check("fair waits", fair(keys=keys, args=[30_000, owner, 1_000]) > 0)
    r.delete("{f}")
    check("the second in the queue", fair(keys=keys, args=[30_000, "c", 2_000]), -2)
    check("the first", fair(keys=keys, args=[30_000, "b", 2_000]), None)
    r.delete("{f}")
    check("after the first was waited for", fair(keys=keys, args=[30_000, "c", 5_999]), None)
    packed = r.eval(PACKED, 1, "{p}", "text")
    check("struct and cjson", '"text":"text"' in packed and "12.5" in packed and "[1,2]" in packed)
    check("wait", r.wait(0, 100), 0)
    r.hset("{h}", mapping={"a": 1, "b": 2})
    try:
        check("hpexpire", r.execute_command("HPEXPIRE", "{h}", 20, "FIELDS", 1, "a"), [1])
    except redis.ResponseError as error:
        # Redis has it since 7.4.
        check("hpexpire", "unknown command" in str(error))
        return
    time.sleep(0.05)
    check("expired", r.hgetall("{h}"), {"b": "2"})


missing = []
for library, module, run in [
    ("redis-py Lock", "redis", redis_py),
    ("python-redis-lock", "redis_lock", python_redis_lock),
    ("pottery", "pottery", pottery),
    ("redlock-py", "redlock", redlock_py),
    ("hand-written recipes", "redis", recipes),
    ("Redisson-shaped scripts", "redis", redisson_shaped),
]:
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(f"!!! SKIPPED: {library}: {error}", file=sys.stderr)
        continue
    start = time.time()
    run()
    for port in ports:
        client(port).flushall()
    print(f"{library}: ok ({time.time() - start:.1f} s)")
