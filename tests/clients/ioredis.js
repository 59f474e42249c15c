// ioredis doing ordinary work. Usage: node ioredis.js PORT
const assert = require("assert");
const Redis = require("ioredis");

const port = Number(process.argv[2]);
const connect = (options = {}) => new Redis({ port, host: "127.0.0.1", ...options });

async function main() {
  const r = connect();
  await r.flushall();

  assert.equal(await r.ping(), "PONG");
  assert.equal(await r.set("k", "v", "EX", 100), "OK");
  assert.equal(await r.get("k"), "v");
  assert.equal(await r.set("k", "w", "NX"), null);
  assert.equal(await r.incr("n"), 1);
  assert.deepEqual(await r.mget("k", "nosuch"), ["v", null]);
  assert.deepEqual(await r.getBuffer("k"), Buffer.from("v"));
  const bytes = Buffer.from([0, 255, 13, 10]);
  await r.set(bytes, bytes);
  assert.deepEqual(await r.getBuffer(bytes), bytes);
  await assert.rejects(r.incr("k"), /value is not an integer or out of range/);

  // Commands sent in one tick are pipelined by themselves.
  const auto = connect({ enableAutoPipelining: true });
  const numbers = await Promise.all([...Array(500).keys()].map((i) => auto.set(`a${i}`, i).then(() => auto.get(`a${i}`))));
  assert.deepEqual(numbers, [...Array(500).keys()].map(String));
  auto.disconnect();

  const replies = await r.pipeline().set("p", 1).incr("p").get("p").exec();
  assert.deepEqual(replies, [[null, "OK"], [null, 2], [null, "2"]]);
  const transaction = await r.multi().set("t", "x").incr("t").get("t").exec();
  assert.equal(transaction[0][1], "OK");
  assert.match(transaction[1][0].message, /not an integer/);
  assert.equal(transaction[2][1], "x");
  await r.watch("w");
  await connect({ lazyConnect: false }).set("w", 1).then(() => {});
  assert.equal(await r.multi().set("w", 2).exec(), null);

  r.defineCommand("compareAndDelete", {
    numberOfKeys: 1,
    lua: "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
  });
  assert.equal(await r.compareAndDelete("k", "nope"), 0);
  assert.equal(await r.compareAndDelete("k", "v"), 1);
  await r.script("FLUSH");
  assert.equal(await r.compareAndDelete("k", "v"), 0);

  const sub = connect();
  const messages = [];
  sub.on("message", (channel, text) => messages.push([channel, text]));
  sub.on("pmessage", (pattern, channel, text) => messages.push([pattern, channel, text]));
  assert.equal(await sub.subscribe("ch"), 1);
  assert.equal(await sub.psubscribe("n.*"), 2);
  assert.equal(await r.publish("ch", "hi"), 1);
  assert.equal(await r.publish("n.x", "there"), 1);
  for (let i = 0; messages.length < 2 && i < 500; i++) await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual(messages, [["ch", "hi"], ["n.*", "n.x", "there"]]);
  await sub.unsubscribe("ch");
  sub.disconnect();

  const seen = new Set();
  for await (const keys of r.scanStream({ match: "a*", count: 50 })) keys.forEach((k) => seen.add(k));
  assert.equal(seen.size, 500);

  const other = connect({ db: 2, connectionName: "other" });
  await other.set("elsewhere", 1);
  assert.equal(await r.get("elsewhere"), null);
  assert.equal(await other.client("GETNAME"), "other");
  assert.match(await r.info("server"), /redis_version:7\./);
  await r.flushall();
  console.log("ioredis: all well");
  process.exit(0);
}

setTimeout(() => { console.error("ioredis: stuck"); process.exit(1); }, 60000).unref();
main().catch((error) => { console.error("ioredis:", error); process.exit(1); });
