"""Load on the API in a process of its own, which takes little of the machine: a protocol a connection, no HTTP library.

Each of the connections sends its next submission when the answer to the last one is there, and notes how long that
took. It knows what the API answers, a status line and a Content-Length, and nothing more; any answer but 202 ends it.
"""

import argparse
import asyncio
import importlib.util
import statistics
import time
from collections.abc import Iterator
from typing import cast

import anyio
from measuring.probe import end_by_signal, report

from .handlers import TEXT

#: One job's submission, all but its number; the number's digits are in the length.
BODY = '{"name":"noop","args":[%d,2,"' + TEXT + '"]}'
HEAD = "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
PATIENCE_S = 300


class Connection(asyncio.Protocol):
    """One connection that always has one request under way.

    Args:
        numbers: The jobs to submit, shared by all connections.
        times_ms: Where each request's time goes.
        ended: Told when there are no more numbers, or why it broke.
    """

    def __init__(self, numbers: Iterator[int], times_ms: list[float], ended: "asyncio.Future[None]") -> None:
        self._numbers = numbers
        self._times_ms = times_ms
        self.ended = ended
        self._answer = b""
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; `next` sends the first request."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def next(self) -> None:
        """Send the next request, or end."""
        number = next(self._numbers, None)
        if number is None:
            self.ended.set_result(None)
            return
        body = BODY % number
        self._sent_s = time.perf_counter()
        self._transport.write((HEAD % len(body) + body).encode())

    def data_received(self, data: bytes) -> None:
        """Note the time of an answer that is complete and send the next request."""
        self._answer += data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        if not blank or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        self._times_ms.append((time.perf_counter() - self._sent_s) * 1000)
        if not head.startswith(b"HTTP/1.1 202 "):
            self.ended.set_exception(ConnectionError(f"the API answered {self._answer[:500]!r}"))
            return
        self._answer = b""
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail where the API hung up in between."""
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"the API hung up: {error}"))


async def press(port: int, jobs: int, connections: int) -> dict[str, float]:
    """Submit all jobs; returns the rate and the percentiles of a request's time."""
    loop = asyncio.get_running_loop()
    numbers, times_ms = iter(range(jobs)), []
    made = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: Connection(numbers, times_ms, loop.create_future()), "127.0.0.1", port
        )
        made.append(connection)
    began_s = time.perf_counter()
    for connection in made:
        connection.next()
    async with asyncio.timeout(PATIENCE_S):
        for connection in made:
            await connection.ended
    took_s = time.perf_counter() - began_s
    cuts = statistics.quantiles(times_ms, n=1000)
    return {"submit_per_s": jobs / took_s, "p50_ms": cuts[499], "p99_ms": cuts[989], "p999_ms": cuts[998]}


def main() -> None:
    """Press once and print."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--port", type=int, required=True)
    made.add_argument("--jobs", type=int, default=20_000)
    made.add_argument("--connections", type=int, default=64)
    arguments = made.parse_args()
    end_by_signal()
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    report(
        anyio.run(
            press, arguments.port, arguments.jobs, arguments.connections, backend_options={"use_uvloop": has_uvloop}
        )
    )


if __name__ == "__main__":
    main()
