"""RedisSink: writes a Dispatcher's outcomes to a Redis stream.

`write` returns when the server has answered for the whole batch; while the server is away it waits and sends again. A
resend after a lost reply doubles nothing: each sink numbers its entries, and the script that adds them keeps the last
number beside the stream and skips what it has seen, the same for the whole of an outage. Batches go in one thread hop
of this sink's own; the client's own retries are off, for they would resend without telling.
"""

import random
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, TryAgainError
from redis.retry import Retry

from headrace.config.errors import ConfigError
from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.outcome import Outcome

from .lines import LineEncoder
from .port import SinkStatistics

log = logger("headrace.sinks")

#: Sent before the replies are read: bounds what the server and the client hold for one pipeline.
CHUNK_COUNT: Final = 500
CHUNK_BYTES: Final = 256 * 1024
#: Entries of one script call: about 0.2 ms during which the server does nothing else.
SCRIPT_COUNT: Final = 100
#: An outage longer than this may double the batch that was under way when it began.
CURSOR_TTL_S: Final = 24 * 3600
#: Pauses between tries while the server is away.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
#: A server that takes a connection but does not answer for this long is taken to be away.
ANSWER_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0

#: The server says that it will take writes again later; anything else that it refuses, it will always refuse.
_PASSING: Final = ("MISCONF ", "BUSY ", "NOREPLICAS ", "TRYAGAIN ", "UNKILLABLE ")
_PASSING_ERRORS: Final = (redis.ReadOnlyError, redis.OutOfMemoryError, ClusterDownError, TryAgainError)

#: KEYS: stream, cursor. ARGV: sink's token, number of the first entry, MAXLEN or 0, TTL of the cursor, entries.
#: Sent whole each time: 500 bytes beside 100 entries, and no second round trip for a server that forgot it.
_ADD: Final = """
local last = tonumber(redis.call('GET', KEYS[2]) or '-1')
local number = tonumber(ARGV[2])
-- The part before this one was refused, as by a server that was still loading: it comes first, or it never would.
if last >= 0 and number > last + 1 then return redis.error_reply('TRYAGAIN the entries before these are missing') end
for i = 5, #ARGV do
  if number > last then
    if ARGV[3] == '0' then
      redis.call('XADD', KEYS[1], '*', 'outcome', ARGV[i], 'sink', ARGV[1], 'number', number)
    else
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'outcome', ARGV[i], 'sink', ARGV[1], 'number', number)
    end
  end
  number = number + 1
end
if number - 1 > last then
  redis.call('SET', KEYS[2], number - 1, 'EX', ARGV[4])
end
return number - 1
"""


class _Batch:
    """A batch under way: how much of it the server has answered for."""

    def __init__(self, outcomes: Sequence[Outcome], lines: list[bytes], first_number: int) -> None:
        self.outcomes = tuple(outcomes)
        self.lines = lines
        self.first_number = first_number
        self.answered = 0

    def is_of(self, outcomes: Sequence[Outcome]) -> bool:
        return len(outcomes) == len(self.outcomes) and all(map(lambda a, b: a is b, outcomes, self.outcomes))


class RedisSink:
    """Writes outcomes to a Redis stream, one entry each with the fields `outcome` (JSON), `sink` and `number`.

    `outcome` holds what a line of FileSink holds. `sink` and `number` together are unique, for readers who want to be
    sure. Beside the stream a key `{KEY}:sink:TOKEN` with the last number lives for a day after the last write.

    Args:
        url: redis://, rediss:// or unix:// address of a server.
        key: The stream.
        max_length: About how many entries stay in it; None keeps all.

    Attributes:
        name: "redis:KEY".
        healthy: False while the server is away or refuses.
    """

    def __init__(self, url: str, *, key: str = "headrace:outcomes", max_length: int | None = 1_000_000) -> None:
        if max_length is not None and max_length < 1:
            raise ConfigError(f"max_length of RedisSink is {max_length}; set it to 1 or more, or to None to keep all")
        self.name = f"redis:{key}"
        self.healthy = True
        self._key = key
        self._max_length = max_length or 0
        self._token = secrets.token_hex(8)
        # In a cluster both keys must be in one slot.
        self._cursor = f"{key if '{' in key else '{' + key + '}'}:sink:{self._token}"
        try:
            self._client: redis.Redis = redis.Redis.from_url(
                url,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=ANSWER_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
            )
        except ValueError as error:
            raise ConfigError(f"the address of RedisSink cannot be read: {error}") from None
        self._address = _address(self._client)
        self._encoder = LineEncoder(with_values=True)
        self._limiter: anyio.CapacityLimiter | None = None
        self._batch: _Batch | None = None
        self._next_number = 0
        self._pending = 0
        self._written = self._errors = self._flushes = self._bytes = 0

    async def open(self) -> None:
        """Reach the server.

        Raises:
            BrokerUnavailable: it does not answer, or refuses us; names the address.
        """
        self._limiter = anyio.CapacityLimiter(1)
        try:
            await self._call(self._client.ping)
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailable(
                f"RedisSink cannot reach {self._address}: {error}; start the server or mend the address"
            ) from error

    async def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write a batch; returns when the server has answered for all of it, and waits while the server is away.

        Cancelled or failed, the same outcomes may be given again: what the server has of them is not added twice.

        Raises:
            BrokerUnavailable: the server refuses for good, such as for a key of another type; says why.
        """
        if self._batch is None or not self._batch.is_of(outcomes):
            self._batch = _Batch(outcomes, self._encoder.encode(outcomes), self._next_number)
            self._next_number += len(outcomes)
        batch = self._batch
        pause_s = FIRST_PAUSE_S
        while batch.answered < len(batch.lines):
            try:
                await self._call(partial(self._send, batch))
            except (redis.RedisError, OSError) as error:
                self._report_fault(error, len(batch.lines) - batch.answered, pause_s)
            else:
                break
            await anyio.sleep(pause_s * (0.5 + random.random() / 2))
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        self.healthy = True
        self._batch = None
        self._pending = 0

    async def close(self) -> None:
        """Let the connection go; `write` returned only when all was written. Safe to call twice."""
        with anyio.CancelScope(shield=True):
            await self._call(self._client.close)

    def statistics(self) -> SinkStatistics:
        """Return the counters; `pending` are the outcomes sent and not yet answered for."""
        return SinkStatistics(
            name=self.name,
            written=self._written,
            pending=self._pending,
            pending_max=CHUNK_COUNT,
            errors=self._errors,
            flushes=self._flushes,
            bytes=self._bytes,
        )

    async def _call(self, function: Callable[[], object]) -> None:
        """Run a blocking function in a thread; a cancellation waits until it ends, so nothing is left half known."""
        await anyio.to_thread.run_sync(function, limiter=self._limiter)

    def _send(self, batch: _Batch) -> None:
        """Send what the server has not answered for, chunk by chunk; runs in the thread."""
        while batch.answered < len(batch.lines):
            chunk = _chunk(batch.lines, batch.answered)
            self._pending = len(chunk)
            with self._client.pipeline(transaction=False) as pipeline:
                for start in range(0, len(chunk), SCRIPT_COUNT):
                    number = batch.first_number + batch.answered + start
                    entries = chunk[start : start + SCRIPT_COUNT]
                    pipeline.eval(
                        _ADD, 2, self._key, self._cursor,
                        self._token, number, self._max_length, CURSOR_TTL_S, *entries,
                    )  # fmt: skip
                pipeline.execute()
            batch.answered += len(chunk)
            self._written += len(chunk)
            self._flushes += 1
            self._bytes += sum(map(len, chunk))

    def _report_fault(self, error: Exception, waiting: int, pause_s: float) -> None:
        """Count a fault, and raise it where waiting will not help."""
        self._errors += 1
        self.healthy = False
        reason = str(error).rpartition(" caused error: ")[2]  # before it redis-py quotes the whole command
        if isinstance(error, redis.AuthenticationError | redis.ResponseError) and not _passes(error, reason):
            self._pending = 0
            raise BrokerUnavailable(
                f"{self._address} refuses the outcomes for {self._key}: {reason}; mend the key, rights or address"
            ) from error
        log.warning("outcomes wait for redis", key=self._key, waiting=waiting, retry_in_s=pause_s, error=reason)


def _passes(error: Exception, reason: str) -> bool:
    """Whether a refusal is one that ends by itself; redis-py takes the code away where it has a class for it."""
    return isinstance(error, _PASSING_ERRORS) or reason.startswith(_PASSING)


def _chunk(lines: list[bytes], start: int) -> list[bytes]:
    """Return the next lines, at least one, within the bounds of a chunk."""
    size_bytes, stop = 0, start
    while stop < len(lines) and stop - start < CHUNK_COUNT:
        size_bytes += len(lines[stop])
        if size_bytes > CHUNK_BYTES and stop > start:
            break
        stop += 1
    return lines[start:stop]


def _address(client: redis.Redis) -> str:
    """Return where the server is, without the password that the URL may hold."""
    options = client.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
