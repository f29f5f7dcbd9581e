/*
 * BullMQ on Node: `addBulk` of 1000, `removeOnComplete` and `removeOnFail`, concurrency 300 (sleep: 100), ioredis.
 *
 * 30 to 500 at once were tried. With results the completed jobs, which hold them, are kept for 5 minutes. Counted:
 * handlers' ends, then the lists of waiting and active jobs. Its code is compiled while it runs: short runs show half
 * its speed. A job whose worker died is found stalled when its lock of 30 s lapses and runs again, once by default.
 *
 * node bullmq.mjs about | work | fill WARM COUNT [FIRST] | ping COUNT; plan.py says what BENCH_PLAN holds, marks.py what a file
 * of marks is.
 */

import fs from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";

const require = createRequire(new URL(".envs/bullmq/package.json", import.meta.url));
const PLAN = { handler: "noop", results: false, redeliver_fast: false, ...JSON.parse(process.env.BENCH_PLAN ?? "{}") };
const [OTHER, TEXT, SLEEP_MS, SLOW_MS, RESULT_TTL_S, BATCH] = [2, "0123456789abcdef", 1, 50, 300, 1000];
const QUEUE = "bench";

const ABOUT = {
  packages: ["bullmq", "ioredis"],
  rows: {
    "": {
      settings: "addBulk of 1000, removeOnComplete, removeOnFail, concurrency 300 (sleep 100), ioredis",
      noop_count: 80_000,
      sleep_count: 60_000,
    },
  },
  promise: "kept until it is done; runs again",
  redelivery: "lockDuration 30 s, stalledInterval 30 s by default; the probe sets 2 s and 1 s",
  redelivery_s: 45,
  source: "docs.bullmq.io, Guide: Workers, Concurrency; Queues, Adding jobs in bulk, Auto-removal of jobs",
  pending: [["LLEN", `bull:${QUEUE}:wait`], ["LLEN", `bull:${QUEUE}:active`]],
  without_results: true,
  loss_slots: 10,
};

/** The marks of this process: the same cells as in marks.py, written to the file every few milliseconds. */
class Marks {
  static FIRST_CELL = 64;
  static ROOM = 4096;
  constructor() {
    this.cells = new BigInt64Array(Marks.FIRST_CELL + 2 * Marks.ROOM);
    this.file = fs.openSync(`${PLAN.marks}/${process.pid}.marks`, "w+");
    this.count = 0;
    this.written = 0;
    setInterval(() => this.write(false), 5);
  }
  write(all) {
    if (this.count === this.written && !all) return;
    this.written = this.count;
    this.cells[0] = BigInt(this.count);
    fs.writeSync(this.file, all ? this.cells : this.cells.subarray(0, Marks.FIRST_CELL), 0, undefined, 0);
  }
  done() {
    this.count += 1;
  }
  stamp(sentUs) {
    const waited = process.hrtime.bigint() - BigInt(sentUs) * 1000n;
    this.done();
    this.cells[Marks.FIRST_CELL + (this.count % Marks.ROOM)] = waited;
    this.write(true);
  }
  begin(number) {
    this.cells[Marks.FIRST_CELL + number] += 1n;
    this.write(true);
  }
  end(number) {
    this.cells[Marks.FIRST_CELL + Marks.ROOM + number] += 1n;
    this.done();
    this.write(true);
  }
}

function work() {
  const { Worker } = require("bullmq");
  const marks = new Marks();
  const handlers = {
    noop: async (job) => {
      marks.done();
      return job.data.number;
    },
    sleep: async (job) => {
      await pause(SLEEP_MS);
      marks.done();
      return job.data.number;
    },
    stamp: async (job) => {
      marks.stamp(job.data.number);
      return job.data.number;
    },
    slow: async (job) => {
      marks.begin(job.data.number);
      await pause(SLOW_MS);
      marks.end(job.data.number);
      return job.data.number;
    },
  };
  const fast = PLAN.redeliver_fast ? { lockDuration: 2000, stalledInterval: 1000 } : {};
  const worker = new Worker(QUEUE, (job) => handlers[job.name](job), {
    connection: { path: PLAN.socket, maxRetriesPerRequest: null },
    concurrency: { slow: ABOUT.loss_slots, sleep: 100 }[PLAN.handler] ?? 300,
    ...fast,
  });
  worker.on("error", (error) => console.error(error.message));
}

async function produce(role, numbers) {
  const { Queue } = require("bullmq");
  const queue = new Queue(QUEUE, { connection: { path: PLAN.socket } });
  const opts = { removeOnComplete: PLAN.results ? { age: RESULT_TTL_S } : true, removeOnFail: true };
  const made = (name, number) => ({ name, data: { number, other: OTHER, text: TEXT }, opts });
  const submit = async (from, to) => {
    for (let number = from; number < to; number += BATCH) {
      const length = Math.min(BATCH, to - number);
      await queue.addBulk(Array.from({ length }, (_, at) => made(PLAN.handler, number + at)));
    }
  };
  await queue.waitUntilReady();
  let figures;
  if (role === "fill") {
    const [warm, count, first = 0] = numbers;
    await submit(first + count, first + count + warm);
    const [began, cpu] = [performance.now(), process.cpuUsage()];
    await submit(first, first + count);
    const [tookMs, used] = [performance.now() - began, process.cpuUsage(cpu)];
    figures = { submit_per_s: count / (tookMs / 1000), submit_cpu_us: (used.user + used.system) / count };
  } else {
    let tookMs = 0;
    for (let number = 0; number < numbers[0]; number += 1) {
      const began = performance.now();
      const { name, data, opts } = made("stamp", Number(process.hrtime.bigint() / 1000n));
      await queue.add(name, data, opts);
      tookMs += performance.now() - began;
      await pause(20 + (number % 7) * 2);
    }
    figures = { submit_one_ms: tookMs / numbers[0] };
  }
  await queue.close();
  console.log(JSON.stringify(figures));
}

const [role, ...rest] = process.argv.slice(2);
if (role === "about") {
  const version = (name) => {
    const folder = new URL(`.envs/bullmq/node_modules/${name}/package.json`, import.meta.url);
    return JSON.parse(fs.readFileSync(folder, "utf8")).version;
  };
  const versions = Object.fromEntries(ABOUT.packages.map((name) => [name, version(name)]));
  console.log(JSON.stringify({ ...ABOUT, versions: { ...versions, node: process.versions.node } }));
} else if (role === "work") {
  work();
} else {
  await produce(role, rest.map(Number));
}
