// npm's redlock, unmodified, over several servers. Usage: redlock.js PORT PORT PORT, for ordinary work,
// or redlock.js bench SECONDS TASKS PORT…, which prints how many locks a second are taken and released.
"use strict";
const assert = require("node:assert");
const Redis = require("ioredis");
const { default: Redlock, ExecutionError } = require("redlock");

const args = process.argv.slice(2);
const benched = args[0] === "bench" ? args.splice(0, 3).slice(1).map(Number) : null;
const clients = args.map((port) => new Redis(Number(port), "127.0.0.1"));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function main() {
  const redlock = new Redlock(clients, { retryCount: 0, driftFactor: 0.01 });
  let lock = await redlock.acquire(["a", "b"], 10_000);
  await assert.rejects(redlock.acquire(["b"], 10_000), ExecutionError);
  lock = await lock.extend(20_000);
  assert(lock.expiration > Date.now() + 15_000);
  await lock.release();
  assert.strictEqual(await clients[0].exists("a", "b"), 0);

  const patient = new Redlock(clients, { retryCount: -1, retryDelay: 10, retryJitter: 10 });
  let total = 0;
  await Promise.all(
    Array.from({ length: 6 }, async () => {
      for (let i = 0; i < 10; i++) {
        // With extensions, for a body that outlasts the first lease.
        await patient.using(["counter"], 2_000, async (signal) => {
          const seen = total;
          await sleep(1);
          if (!signal.aborted) total = seen + 1;
        });
      }
    }),
  );
  assert.strictEqual(total, 60);
  await patient.using(["long"], 1_000, { automaticExtensionThreshold: 500 }, async (signal) => {
    await sleep(1_500);
    assert(!signal.aborted);
  });
  console.log("npm redlock: ok");
}

async function bench(seconds, tasks) {
  const redlock = new Redlock(clients, { retryCount: 0 });
  const until = Date.now() + seconds * 1000;
  let done = 0;
  await Promise.all(
    Array.from({ length: tasks }, async (_, task) => {
      while (Date.now() < until) {
        const lock = await redlock.acquire([`bench:${task}`], 10_000);
        await lock.release();
        done += 1;
      }
    }),
  );
  console.log(Math.floor(done / seconds));
}

(benched ? bench(...benched) : main()).then(
  () => process.exit(0),
  (error) => {
    console.error("npm redlock:", error);
    process.exit(1);
  },
);
