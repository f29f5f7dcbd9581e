"""Under asyncio's own runner, which tells callbacks of nothing, as anyio's does: waits end in time there too."""

import asyncio
import contextlib

import httpx
import pytest

from headrace import Engine, WaitTimeout

DEADLINE_S = 30
#: When waits of the same length begin: before, and after, the first of them is late.
BEGIN_S = (0.0, 0.1, 0.35, 0.75)
SPAN_S = 0.25


def engine_of(name: str) -> Engine:
    """Return an engine with a handler; no worker runs."""
    engine = Engine(f"memory://plain-{name}")

    @engine.job
    async def noop() -> None: ...

    return engine


def test_waits_that_overlap_are_late_each() -> None:
    """Each wait is over in time, whichever timer of the loop serves it."""

    async def main() -> None:
        async with engine_of("waits") as engine:
            handles = [await engine.submit("noop") for _ in BEGIN_S]

            async def wait(after_s: float, number: int) -> None:
                await asyncio.sleep(after_s)
                with pytest.raises(WaitTimeout):
                    await handles[number].result(timeout=SPAN_S)

            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
                for number, after_s in enumerate(BEGIN_S):
                    group.create_task(wait(after_s, number))

    asyncio.run(main())


def test_readers_of_many_are_late_each() -> None:
    """The same of those who read the results of many."""

    async def main() -> None:
        async with engine_of("readers") as engine:
            handles = [await engine.submit("noop") for _ in range(3)]

            async def read(after_s: float) -> None:
                await asyncio.sleep(after_s)
                with pytest.raises(WaitTimeout):
                    await engine.gather(handles, timeout=SPAN_S)

            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
                for after_s in BEGIN_S:
                    group.create_task(read(after_s))

    asyncio.run(main())


def test_an_api_in_another_program_answers_waits_in_time() -> None:
    """The API in somebody's own application, on asyncio's own runner: each long poll is answered when it is over."""

    async def main() -> None:
        engine = engine_of("api")
        transport = httpx.ASGITransport(engine.asgi())  # type: ignore[arg-type]  # scopes are dictionaries
        async with engine, contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
            )
            job_id = (await engine.submit("noop")).id

            async def poll(after_s: float) -> int:
                await asyncio.sleep(after_s)
                return (await client.get(f"/v1/jobs/{job_id}/result", params={"wait_s": SPAN_S})).status_code

            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
                polls = [group.create_task(poll(after_s)) for after_s in BEGIN_S]
            assert [202] * len(BEGIN_S) == [each.result() for each in polls]

    asyncio.run(main())
