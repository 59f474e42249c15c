"""redis-cli and redis-benchmark as a person uses them. Usage: redis_cli.py PORT"""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time

port = sys.argv[1]
ANSI = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def check(name, got, want):
    if (want not in got) if isinstance(want, (str, bytes)) else not want(got):
        sys.exit(f"redis-cli: {name}: expected {want!r} in\n{got}")


def cli(*args, stdin=None):
    done = subprocess.run(["redis-cli", "-p", port, *args], input=stdin, capture_output=True, timeout=60)
    return (done.stdout + done.stderr).decode(errors="replace")


class Terminal:
    """redis-cli with a person at a terminal before it."""

    def __init__(self, *args):
        pid, self.fd = pty.fork()
        if pid == 0:
            # A terminal of no width makes the line editor ask for its size.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
            os.environ.update(TERM="xterm", HOME=tempfile.mkdtemp())
            os.execvp("redis-cli", ["redis-cli", "-p", port, *args])
        self.pid, self.seen = pid, b""

    def type(self, line):
        # What is typed before the prompt is there is thrown away by the editor.
        self.expect("> ")
        os.write(self.fd, line.encode() + b"\r")

    def expect(self, text, seconds=20):
        end = time.time() + seconds
        while text.encode() not in ANSI.sub(b"", self.seen):
            ready, _, _ = select.select([self.fd], [], [], 0.2)
            if ready:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    break
            if time.time() > end:
                break
        clean = ANSI.sub(b"", self.seen)
        if text.encode() not in clean:
            sys.exit(f"redis-cli, interactive: no {text!r} in\n{clean.decode(errors='replace')}")
        self.seen = clean.split(text.encode(), 1)[1]

    def end(self):
        os.close(self.fd)
        try:
            os.kill(self.pid, 9)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)


def one_shot():
    cli("flushall")
    check("set", cli("set", "k", "v"), "OK")
    check("get", cli("get", "k"), "v")
    check("-x", cli("-x", "set", "stdin", stdin=b"from stdin"), "OK")
    check("-r", cli("-r", "3", "incr", "n"), "3")
    check("--json", cli("-3", "--json", "config", "get", "maxclients"), '{"maxclients":"10000"}')
    check("-3", cli("-3", "hello", "3"), "proto")
    check("-n", cli("-n", "2", "dbsize"), "0")
    check("info", cli("info", "server"), "redis_version:7.")
    check("error", cli("get"), "ERR wrong number of arguments for 'get' command")
    check("file", cli(stdin=b"set a 1\nincr a\nget a\n"), "OK\n2\n2")


def bulk():
    commands = b"".join(b"SET pipe:%d %d\r\n" % (i, i) for i in range(5000))
    check("--pipe", cli("--pipe", stdin=commands), "errors: 0, replies: 5000")
    multibulk = b"".join(b"*3\r\n$3\r\nSET\r\n$7\r\npipe:%02d\r\n$1\r\nx\r\n" % i for i in range(90))
    check("--pipe, multibulk", cli("--pipe", stdin=multibulk), "errors: 0, replies: 90")
    scanned = cli("--scan", "--pattern", "pipe:*").split()
    check("--scan", str(len(set(scanned)) >= 5000), "True")
    check("--bigkeys", cli("--bigkeys"), "Biggest string found")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as f:
        f.write("return {KEYS[1], ARGV[1], redis.call('get', KEYS[2])}")
        f.flush()
        check("--eval", cli("--eval", f.name, "one", "k", ",", "arg"), "one\narg\nv")


def interactive():
    t = Terminal()
    t.type("set greeting 'hello world'")
    t.expect("OK\r\n")
    t.type("get greeting")
    t.expect('"hello world"')
    t.type("incr greeting")
    t.expect("(error) ERR value is not an integer or out of range")
    t.type("get nosuch")
    t.expect("(nil)")
    t.type("incr counter")
    t.expect("(integer) 1")
    t.type("mget greeting nosuch")
    t.expect('1) "hello world"')
    t.type("help set")
    t.expect("summary: ")
    t.type("multi")
    t.expect("(TX)")
    t.type("incr counter")
    t.expect("QUEUED")
    t.type("exec")
    t.expect("1) (integer) 2")
    t.type("select 3")
    t.expect("[3]")
    t.type("hello 3")
    t.expect('"proto" => (integer) 3')
    t.end()


def watching():
    monitor = Terminal("monitor")
    monitor.expect("OK")
    subscriber = Terminal("subscribe", "news")
    subscriber.expect("(integer) 1")
    pattern = Terminal("-3", "psubscribe", "n*")
    pattern.expect("(integer) 1")
    check("publish", cli("publish", "news", "today"), "2")
    subscriber.expect('3) "today"')
    pattern.expect('4) "today"')
    monitor.expect('"publish" "news" "today"')
    cli("set", "odd\x01key", 'with "quotes"')
    monitor.expect('"set" "odd\\x01key" "with \\"quotes\\""')
    for terminal in (monitor, subscriber, pattern):
        terminal.end()


def benchmark():
    small = ["redis-benchmark", "-p", port, "-n", "2000", "-c", "10", "-q"]
    for extra in (["-t", "set,get,incr,mset,ping_inline,ping_mbulk"],
                  ["-t", "set,get", "-P", "16", "-r", "1000", "--threads", "2"],
                  ["-3", "-t", "set,get"],
                  ["eval", "return redis.call('ping')", "0"]):
        done = subprocess.run(small + extra, capture_output=True, timeout=120)
        text = (done.stdout + done.stderr).decode()
        check("redis-benchmark", text, "requests per second")
        check("redis-benchmark without errors", text, lambda t: "Error" not in t and "ERR" not in t)


one_shot()
bulk()
interactive()
watching()
benchmark()
cli("flushall")
print("redis-cli and redis-benchmark: all well")
