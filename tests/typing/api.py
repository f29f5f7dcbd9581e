"""What a type checker tells a user about the public interface; `make check` checks it, nothing runs it.

A line with an ignore comment is an error that both checkers must find: each reports a comment that hides nothing.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true, reportMissingSuperCall=false

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_type

from headrace import Context, Dispatcher, Engine, Handlers, HeadraceError, JobHandle, JobResult, Retry, Ticket

engine = Engine()
handlers = Handlers(queue="mail")


@engine.job
async def add(a: int, b: int) -> int:
    return a + b


@engine.job(queue="images", timeout=30, retry=Retry(attempts=5, on=(OSError,)))
async def resize(ctx: Context, path: str, width: int = 200) -> dict[str, int]:
    return {path: width + ctx.attempt}


@handlers.job
def shout(text: str, *, times: int = 1) -> str:
    return text.upper() * times


@handlers.job(name="whisper", aliases=("hush",), runner="process", result_ttl="1h")
def lower(text: str) -> str:
    return text.lower()


@engine.job()
def with_context(ctx: Context, number: float) -> list[float]:
    return [number, ctx.attempt]


@engine.job
async def bare_with_context(ctx: Context, number: float) -> None:
    ctx.check_cancelled()


@engine.job(batch=100, batch_linger=0.05)
async def index(rows: list[str]) -> list[int | Exception]:
    return [len(row) for row in rows]


@handlers.job(queue="rows", batch=10)
def index_in_a_thread(rows: Sequence[str]) -> list[int]:
    return [len(row) for row in rows]


async def submits_items() -> None:
    assert_type(await index.submit("a"), JobHandle[int])
    assert_type(await (await index.submit("a")).result(), int)
    assert_type(await (await index_in_a_thread.options(delay=1).submit("a")).result(), int)
    assert_type(await index.submit_many([("a",), ("b",)]), list[JobHandle[int]])
    assert_type(index.sync.submit("a").result(), int)
    await index(["a", "b"])
    await index.submit(["a"])  # type: ignore[arg-type]
    await index.submit("a", "b")  # type: ignore[call-arg]


def wrong_batches() -> None:
    @engine.job(batch=10)  # type: ignore[arg-type]
    async def two(rows: list[str], more: int) -> list[int]:
        return [more for _ in rows]

    @engine.job(batch=10)  # type: ignore[arg-type]
    async def no_list(row: str) -> list[int]:
        return [len(row)]


async def submits() -> None:
    handle = await add.submit(1, 2)
    assert_type(handle, JobHandle[int])
    assert_type(await handle.result(), int)
    assert_type(await handle.result(timeout="10s"), int)
    assert_type(await (await add.submit(a=1, b=2)).result(), int)
    assert_type(await add.submit_many([(1, 2), (3, 4)]), list[JobHandle[int]])
    assert_type(await (await shout.submit("a", times=2)).result(), str)
    assert_type(await (await lower.submit(text="A")).result(), str)


async def reads_many() -> None:
    handles = await add.submit_many([(1, 2)])
    async for handle, result in engine.results(handles, timeout="1m", ordered=True):
        assert_type(handle, JobHandle[int])
        assert_type(result, JobResult[int])
        assert_type(result.value, int)
        assert_type(result.error, HeadraceError | None)
    assert_type(await engine.gather(handles), list[int])
    assert_type(await engine.gather(handles, return_exceptions=True), list[int | HeadraceError])
    mixed: list[JobHandle[int | str]] = [await add.submit(1, 2), await shout.submit("a")]
    assert_type(await engine.gather(mixed, timeout=10), list[int | str])


def reads_many_blocking() -> None:
    handles = add.sync.submit_many([(1, 2)])
    for handle, result in engine.sync.results(handles, timeout=10):
        assert_type(result.value, int)
        assert_type(handle.result(), int)
    assert_type(engine.sync.gather(handles, timeout=10), list[int])
    assert_type(engine.sync.gather(handles, return_exceptions=True), list[int | HeadraceError])


async def submits_without_context() -> None:
    assert_type(await (await resize.submit("a.png", width=100)).result(), dict[str, int])
    assert_type(await (await with_context.submit(1.5)).result(), list[float])
    assert_type(await (await bare_with_context.submit(number=1.5)).result(), None)


async def submits_with_options() -> None:
    assert_type(await add.options(delay=10, timeout="30s").submit(1, 2), JobHandle[int])
    assert_type(await resize.options(at=datetime.now(UTC)).submit("a.png"), JobHandle[dict[str, int]])
    assert_type(await shout.options(retry=None, on_full="wait").submit_many([("a",)]), list[JobHandle[str]])
    assert_type(add.options(result_ttl=timedelta(hours=1)).sync.submit(1, 2).result(), int)


async def calls(ctx: Context) -> None:
    assert_type(await add(1, 2), int)
    assert_type(shout("a"), str)
    assert_type(await resize(ctx, "a.png"), dict[str, int])
    assert_type(with_context(ctx, 1.5), list[float])
    plainly: Callable[[int, int], Awaitable[int]] = add
    assert_type(await plainly(1, 2), int)


def blocks() -> None:
    assert_type(add.sync.submit(1, 2).result(timeout=10), int)
    assert_type(resize.sync.submit("a.png").result(), dict[str, int])
    assert_type([handle.result() for handle in lower.sync.submit_many([("A",)])], list[str])


async def wrong_types(ctx: Context) -> None:
    await add.submit("1", 2)  # type: ignore[arg-type]
    await add.submit(1)  # type: ignore[call-arg]
    await add.submit(1, 2, 3)  # type: ignore[call-arg]
    await add.submit(1, c=2)  # type: ignore[call-arg]
    await resize.submit(ctx, "a.png")  # type: ignore[arg-type]
    await resize.submit("a.png", width="wide")  # type: ignore[arg-type]
    await add.options(delay=1).submit(1, "2")  # type: ignore[arg-type]
    add.options(colour="red")  # type: ignore[call-arg]
    add.options(on_full="drop")  # type: ignore[arg-type]
    await add("1", 2)  # type: ignore[arg-type]
    await resize("a.png")  # type: ignore[arg-type, call-arg]
    shout.sync.submit("a", 2)  # type: ignore[call-arg]
    wrong: str = add.sync.submit(1, 2).result()  # type: ignore[assignment]
    print(wrong)


def wrong_options() -> None:
    @engine.job(runner="fork")  # type: ignore[call-overload, untyped-decorator]
    def first() -> None: ...

    @engine.job(retry="often")  # type: ignore[call-overload, untyped-decorator]
    def second() -> None: ...


async def fetch(url: str, *, tries: int = 1) -> bytes:
    return url.encode() * tries


def measure(path: str) -> float:
    return len(path)


async def dispatches() -> None:
    async with Dispatcher(slots=10, timeout=5, backlog=100) as dispatcher:
        assert_type(await dispatcher.submit(fetch, "http://localhost", tries=2), Ticket[bytes])
        assert_type(await (await dispatcher.submit(fetch, "http://localhost")).result(), bytes)
        assert_type(await dispatcher.submit(measure, "x"), Ticket[float])
        assert_type(dispatcher.submit_nowait(measure, "x"), Ticket[float])
        await dispatcher.submit(fetch, 3)  # type: ignore[call-overload]
        await dispatcher.submit(measure)  # type: ignore[call-overload]
