"use strict";
// One measured process of graphile-worker. It speaks the protocol of ../internal/protocol.

const readline = require("node:readline");
const { Pool } = require("pg");
const { run, runMigrations, makeWorkerUtils, Logger } = require("graphile-worker");

const spec = JSON.parse(process.argv[2]);
const TASK = "bench";
const TICK_MS = 100;

function tell(event) {
  process.stdout.write(JSON.stringify({ at: nowNS(), ...event }) + "\n");
}

// Nanoseconds since 1970; a double keeps them to about a quarter of a microsecond.
function nowNS() {
  return Math.round((performance.timeOrigin + performance.now()) * 1e6);
}

function cpuNS() {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Warnings and errors only, and not to stdout, which is the benchmark's.
const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") process.stderr.write(message + "\n");
});

// The settings of graphile-worker's own performance test, or its defaults but for the number of concurrent jobs,
// which is 1 otherwise.
function preset() {
  const concurrentJobs = spec.slots || 24;
  const worker = { concurrentJobs, maxPoolSize: concurrentJobs + 1 };
  if (spec.peer === "graphile-tuned") {
    Object.assign(worker, {
      localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    });
  }
  return { worker };
}

// A URL without a host, whose socket's folder is a parameter, is none for the URL class.
function newPool() {
  const [, user, host, port, database, query] = /^postgres:\/\/([^@]*)@([^:/]*):?(\d*)\/([^?]*)\??(.*)$/.exec(spec.address);
  const params = new URLSearchParams(query);
  return new Pool({
    host: params.get("host") || host,
    port: Number(params.get("port") || port || 5432),
    user,
    database,
    max: Math.max(spec.pool || 0, (spec.slots || 24) + 1),
  });
}

function payload(n, naps = 0) {
  return {
    n,
    email: `user-${n}@example.com`,
    text: `order ${(Math.imul(n, 0x9e3779b1) >>> 0).toString(16).padStart(8, "0")} of customer ${n % 9973}`,
    sentAt: nowNS(),
    sleepMs: naps,
  };
}

function commands() {
  const waiting = [];
  const come = [];
  const give = (line) => (waiting.length ? waiting.shift()(line) : come.push(line));
  readline
    .createInterface({ input: process.stdin })
    .on("line", give)
    .on("close", () => give("stop"));
  return () => (come.length ? Promise.resolve(come.shift()) : new Promise((resolve) => waiting.push(resolve)));
}

async function work(pgPool, next) {
  const first = spec.first || 0;
  const seen = spec.seen ? new Uint8Array(spec.count) : null;
  const samples = [];
  let started = 0;
  const handle = async (p) => {
    if (spec.handler === "latency" && p.n >= first) samples.push((nowNS() - p.sentAt) / 1e6);
    if (spec.handler === "sleep" && p.sleepMs > 0) samples.push(nowNS() / 1e6);
    if (seen && p.n >= first) seen[p.n - first]++;
    if (++started === spec.count) tell({ event: "handled", done: started });
    if (p.sleepMs > 0) await sleep(p.sleepMs);
  };
  tell({ event: "started", cpu: cpuNS() });
  const runner = await run({ preset: preset(), pgPool, logger, noHandleSignals: true, taskList: { [TASK]: handle } });
  const ticker = spec.quiet ? null : setInterval(() => tell({ event: "tick", done: started }), TICK_MS);
  while ((await next()) === "usage") tell({ event: "usage", done: started, cpu: cpuNS() });
  await runner.stop();
  clearInterval(ticker);
  if (seen) require("node:fs").writeFileSync(spec.seen, seen);
  tell({ event: "stopped", done: started, samples });
}

async function enqueue(utils) {
  let number = 0;
  await utils.addJob(TASK, payload(++number));
  const cpu = cpuNS();
  const began = nowNS();
  const until = began + spec.duration;
  let total = 0;
  const caller = async () => {
    while (nowNS() < until) {
      await utils.addJob(TASK, payload(++number));
      total++;
    }
  };
  await Promise.all(Array.from({ length: spec.callers }, caller));
  tell({ event: "done", done: total, elapsed: nowNS() - began, cpu: cpuNS() - cpu });
}

async function bulk(utils) {
  const cpu = cpuNS();
  const began = nowNS();
  const first = spec.first || 0;
  let done = 0;
  let told = began;
  while (done < spec.count) {
    const n = Math.min(spec.batch, spec.count - done);
    const jobs = Array.from({ length: n }, (_, i) => ({ identifier: TASK, payload: payload(first + done + i, spec.naps) }));
    await utils.addJobs(jobs);
    done += n;
    if (nowNS() - told > TICK_MS * 1e6) {
      told = nowNS();
      tell({ event: "tick", done });
    }
  }
  tell({ event: "done", done, elapsed: nowNS() - began, cpu: cpuNS() - cpu });
}

async function pickup(utils) {
  const first = spec.first || 0;
  const samples = [];
  for (let n = first - 10; n < first + spec.count; n++) {
    await sleep(50 + Math.random() * 200);
    const began = nowNS();
    await utils.addJob(TASK, payload(n));
    samples.push((nowNS() - began) / 1e6);
  }
  tell({ event: "done", done: spec.count, samples });
}

async function main() {
  const pgPool = newPool();
  if (spec.role === "migrate") {
    await runMigrations({ pgPool, logger });
    tell({ event: "done" });
    await pgPool.end();
    return;
  }
  const utils = await makeWorkerUtils({ pgPool, logger });
  const next = commands();
  tell({ event: "ready" });
  if ((await next()) === "go") {
    const roles = { work: () => work(pgPool, next), enqueue, bulk, pickup };
    if (!roles[spec.role]) throw new Error(`graphile-worker has no role ${spec.role}`);
    await roles[spec.role](utils);
  }
  await utils.release();
  await pgPool.end().catch(() => {});
}

main().then(
  () => process.exit(0),
  (err) => {
    tell({ event: "failed", error: String(err && err.stack ? err.stack : err) });
    process.exit(1);
  },
);
