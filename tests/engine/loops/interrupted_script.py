"""A program that is interrupted with Ctrl-C while a handler runs; test_dispatcher_end.py starts it."""

import os
import signal
import sys

import anyio

from headrace.engine.loops.dispatcher import Dispatcher
from noting_sink import NotingSink


async def interrupted() -> None:
    """Have the signal arrive while this handler, and no other code, runs."""
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        sum(range(100))
    await anyio.sleep_forever()


async def main(sink: NotingSink) -> None:
    async with Dispatcher(slots=2, sinks=[sink]) as dispatcher:
        await dispatcher.submit(anyio.sleep_forever)
        await dispatcher.submit(interrupted)
        await anyio.sleep(30)


if __name__ == "__main__":
    noting = NotingSink()
    try:
        anyio.run(main, noting, backend=sys.argv[1])
    except KeyboardInterrupt:
        print("KeyboardInterrupt", *sorted(f"{each.work.label}={each.status}" for each in noting.outcomes))
