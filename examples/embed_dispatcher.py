"""The Dispatcher inside a program: a bounded pool with an outcome file, and no server.

`python embed_dispatcher.py` runs it. Coroutine functions get slots in the event loop, plain functions threads. `submit`
waits while the backlog is full, so a fast producer cannot fill the memory; leaving the block waits until every outcome
is in the file.
"""

import sys
import time

import anyio

from headrace import Dispatcher, FileSink, JobFailed


async def fetch(number: int) -> int:
    """Stand for a request to somewhere."""
    await anyio.sleep(0.01)
    if number == 13:
        raise ValueError("unlucky")
    return number * number


def compress(text: str) -> int:
    """Stand for a library that blocks."""
    time.sleep(0.01)
    return len(set(text))


async def main(path: str) -> None:
    """Run 200 fetches, at most 20 at a time, and one blocking call beside them."""
    async with Dispatcher(slots=20, timeout=5, backlog=50, sinks=[FileSink(path)]) as dispatcher:
        tickets = [await dispatcher.submit(fetch, number) for number in range(200)]
        letters = await dispatcher.submit(compress, "headrace")
        print("letters:", await letters.result())

        squares, failed = 0, []
        for ticket in tickets:
            try:
                squares += await ticket.result()
            except JobFailed as error:
                failed.append(error.error)
        print("sum of squares:", squares)
        print("failed:", *failed)
        print("p50 of a run in ms:", dispatcher.statistics().latency_ms.run.p50)
    print("outcomes:", path)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "outcomes.jsonl")
