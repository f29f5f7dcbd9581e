"""A first engine: one handler in the event loop, one in a thread. `python hello.py` runs it.

No server is needed: the engine starts a private one and says where it keeps its data. Or split the work over two
terminals: `headrace run hello:engine` in one, `headrace submit add --args '[1, 2]' --wait 10` in the other.
"""

import hashlib
from pathlib import Path

import anyio

from headrace import Engine, InvalidArguments, JobFailed

engine = Engine()


@engine.job
async def add(a: int, b: int) -> int:
    """Runs in the event loop, with up to 100 others."""
    return a + b


@engine.job(timeout="1m", retry=2)
def fingerprint(path: str) -> str:
    """A plain function runs in a thread, so it may block; it is tried twice."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


async def main() -> None:
    """Submit and work in one process."""
    async with engine.running():
        sums = await add.submit_many((number, number) for number in range(5))
        print("sums:", [await handle.result(timeout=10) for handle in sums])

        own = await fingerprint.submit(__file__)
        print("this file:", (await own.result(timeout=10))[:16])

        try:
            await add.submit("one", 2)  # type: ignore[arg-type]
        except InvalidArguments as error:
            print("refused before it was queued:", error)

        missing = await fingerprint.options(retry=None).submit("/no/such/file")
        try:
            await missing.result(timeout=10)
        except JobFailed as error:
            print("failed:", error.error)


if __name__ == "__main__":
    anyio.run(main)
