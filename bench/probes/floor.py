"""The floor: what no engine on this stack can avoid, and nothing else.

An engine's figure divided by this one, taken in the same minute, says how much of the possible it reaches.

Jobs are packed envelopes in a stream, added by a script 500 at a time; one thread reads 500 at a time, a fixed set of
slots unpacks and awaits a no-op for each, one thread stores the results, acknowledges and deletes by one script a
batch. No timeouts, retries, registrations, statistics, argument checks or errors. Results of neighbours share a hash,
as headrace keeps them; with --own-keys each has a key of its own, as is usual elsewhere.
"""

import argparse
import time
from collections import deque

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import msgpack
import redis
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.servers import cpu_s, server

from .handlers import TEXT

STREAM, GROUP, PREFIX = "floor:{q}:jobs", "floor", "floor:{q}:result:"
ADD = """
for _, body in ipairs(ARGV) do redis.call('XADD', KEYS[1], '*', 'm', body) end
return #ARGV
"""
#: ARGV: the count, so many entries, and as many results, or none.
DONE = """
local count = tonumber(ARGV[1])
redis.call('XACK', KEYS[1], KEYS[2], unpack(ARGV, 2, count + 1))
redis.call('XDEL', KEYS[1], unpack(ARGV, 2, count + 1))
{keep}
return count
"""
OWN_KEYS = "for at = count + 2, #ARGV do redis.call('SET', KEYS[3] .. ARGV[at - count], ARGV[at], 'PX', 300000) end"
#: A field is the last two characters of an entry, the rest ends its key: a hundred neighbours share one.
SHARED_KEYS = """
local groups = {}
for at = count + 2, #ARGV do
  local entry = ARGV[at - count]
  local head = string.sub(entry, 1, -3)
  local group = groups[head]
  if not group then group = {} groups[head] = group end
  local n = #group
  group[n + 1], group[n + 2] = string.sub(entry, -2), ARGV[at]
end
for head, group in pairs(groups) do
  redis.call('HSET', KEYS[3] .. head, unpack(group))
  redis.call('PEXPIRE', KEYS[3] .. head, 300000)
end
"""
BATCH, READY_MAX, TURN_S, GATHER_S = 500, 2000, 0.005, 0.002
#: A batch of large jobs is smaller: as many as these bytes hold.
BATCH_BYTES = 4 * 1024 * 1024


def batch_of(payload: int) -> int:
    """Return how many jobs of a size travel together."""
    return max(1, min(BATCH, BATCH_BYTES // payload)) if payload else BATCH


def client(socket: str) -> redis.Redis:
    made = redis.Redis(unix_socket_path=socket, protocol=2)
    made.response_callbacks.clear()
    return made


def submit(socket: str, jobs: int, payload: int) -> float:
    """Add the jobs; returns how many a second."""
    connection, pack = client(socket), msgpack.Packer().pack
    connection.execute_command("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
    sha, text, batch = connection.script_load(ADD), "x" * payload if payload else TEXT, batch_of(payload)
    began_s = time.perf_counter()
    for first in range(0, jobs, batch):
        numbers = range(first, min(first + batch, jobs))
        bodies = [pack([1, "noop", [number, 2, text], {}, None]) for number in numbers]
        connection.execute_command("EVALSHA", sha, 1, STREAM, *bodies)
    return jobs / (time.perf_counter() - began_s)


class Floor:
    """One run over the queued jobs."""

    def __init__(self, socket: str, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.reading, self.writing = client(socket), client(socket)
        keep = OWN_KEYS if arguments.own_keys else SHARED_KEYS
        self.sha = self.writing.script_load(DONE.replace("{keep}", keep))
        self.ready: deque[tuple[bytes, bytes]] = deque()
        self.sleepers: deque[anyio.Event] = deque()
        self.done: list[tuple[bytes, object]] = []
        self.some_done, self.low, self.finished = anyio.Event(), anyio.Event(), anyio.Event()
        self.settled = 0
        self.began_s = self.cpu_s = 0.0
        self.count, self.seen = batch_of(arguments.payload), bytearray(arguments.jobs)

    async def noop(self, number: int, other: int, text: str) -> None:
        self.seen[number] += 1
        if self.arguments.sleep_ms:
            await anyio.sleep(self.arguments.sleep_ms / 1000)

    def read(self) -> list[tuple[bytes, bytes]]:
        reply = self.reading.execute_command(
            "XREADGROUP", "GROUP", GROUP, "one", "COUNT", self.count, "BLOCK", 500, "STREAMS", STREAM, ">"
        )
        return [(entry, fields[1]) for entry, fields in reply[0][1]] if reply else []

    def write(self, batch: list[tuple[bytes, object]]) -> None:
        pack = msgpack.Packer().pack
        for first in range(0, len(batch), 1000):
            part = batch[first : first + 1000]
            values = [] if self.arguments.no_results else [pack([1, "succeeded", value, None]) for _, value in part]
            entries = [entry for entry, _ in part]
            self.writing.execute_command("EVALSHA", self.sha, 3, STREAM, GROUP, PREFIX, len(part), *entries, *values)

    async def reader(self) -> None:
        limiter = anyio.CapacityLimiter(1)
        while True:
            if self.arguments.payload and not self.began_s:  # one read may bring most of the large jobs
                self.began_s, self.cpu_s = time.perf_counter(), time.process_time()
            batch = await anyio.to_thread.run_sync(self.read, limiter=limiter)
            if batch and not self.began_s:
                self.began_s, self.cpu_s = time.perf_counter(), time.process_time()
            self.ready.extend(batch)
            for _ in range(min(len(batch), len(self.sleepers))):
                self.sleepers.popleft().set()
            while len(self.ready) > READY_MAX:
                self.low = anyio.Event()
                await self.low.wait()

    async def writer(self) -> None:
        limiter = anyio.CapacityLimiter(1)
        while self.settled < self.arguments.jobs:
            await self.some_done.wait()
            if len(self.done) < BATCH:
                await anyio.sleep(GATHER_S)
            batch, self.done, self.some_done = self.done, [], anyio.Event()
            await anyio.to_thread.run_sync(self.write, batch, limiter=limiter)
            self.settled += len(batch)
        self.finished.set()

    async def slot(self) -> None:
        handlers, unpack, clock = {"noop": self.noop}, msgpack.unpackb, time.perf_counter
        turn_ends_s = 0.0
        while True:
            while not self.ready:
                event = anyio.Event()
                self.sleepers.append(event)
                await event.wait()
                turn_ends_s = clock() + TURN_S
            entry, body = self.ready.popleft()
            if len(self.ready) == READY_MAX // 2:
                self.low.set()
            _, name, args, kwargs, _ = unpack(body)
            value = await handlers[name](*args, **kwargs)
            self.done.append((entry, value))
            self.some_done.set()
            if clock() > turn_ends_s:
                await anyio.lowlevel.checkpoint()
                turn_ends_s = clock() + TURN_S

    async def run(self) -> dict[str, float]:
        async with anyio.create_task_group() as group:
            for _ in range(self.arguments.slots):
                group.start_soon(self.slot)
            group.start_soon(self.writer)
            group.start_soon(self.reader)
            await self.finished.wait()
            took_s, cpu_s = time.perf_counter() - self.began_s, time.process_time() - self.cpu_s
            group.cancel_scope.cancel()
        jobs, left = self.arguments.jobs, self.writing.execute_command("XLEN", STREAM)
        found = {"jobs_per_s": jobs / took_s, "cpu_us_per_job": cpu_s / jobs * 1e6, "lost": left,
                 "duplicates": sum(self.seen) - jobs + self.seen.count(0)}  # fmt: skip
        if self.arguments.payload:
            found["mb_per_s"] = jobs / took_s * self.arguments.payload / 1e6
        return found


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--sleep-ms", type=float, default=0)
    made.add_argument("--payload", type=int, default=0, help="bytes of text that each job carries")
    made.add_argument("--no-results", action="store_true")
    made.add_argument("--own-keys", action="store_true", help="a key for each result")
    arguments = made.parse_args()
    end_by_signal()

    async def measure(socket: str) -> dict[str, float]:
        return await Floor(socket, arguments).run()

    with server(arguments.fsync) as (socket, pid):
        submit_per_s = submit(socket, arguments.jobs, arguments.payload)
        server_cpu_s = cpu_s(pid)
        figures = run_on(arguments.loop, measure, socket)
        server_cpu_us = (cpu_s(pid) - server_cpu_s) / arguments.jobs * 1e6
    report({"submit_per_s": submit_per_s, "server_cpu_us_per_job": server_cpu_us, **figures})


if __name__ == "__main__":
    main()
