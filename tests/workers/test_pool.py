"""The pool and handlers that misbehave: each harms only itself, and the next jobs in the same slots run."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from headrace.jobs.outcome import Outcome, Status
from headrace.workers import native
from pool_scene import Piece, Stage, quick, short, stage

pytestmark = pytest.mark.anyio

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


class WordlessError(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class ClosedError(Exception):
    """Cannot be asked anything, its class included."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"no {name}")


class Incomparable:
    """A value that refuses to be compared, as arrays do."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")


#: The tests take them by the names of their classes, since pytest asks a parameter of which class it is.
RAISED: list[BaseException] = [
    BaseException("bare"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError("its own"),
    ExceptionGroup("several", [ValueError("a"), TypeError("b")]),
    BaseExceptionGroup("worse", [KeyboardInterrupt(), ValueError("b")]),
    StopAsyncIteration(),
    WordlessError(),
    ClosedError(),
]


def raising(error: BaseException, *, first_waits: bool) -> Callable[[], Awaitable[None]]:
    async def handler() -> None:
        if first_waits:
            await anyio.lowlevel.checkpoint()
        raise error

    return handler


async def between_good_ones(on: Stage, bad: Piece, good: int = 20) -> Outcome:
    """Play one piece among good ones, on few slots, twice over; return its outcome."""
    pieces = [Piece(quick) for _ in range(good)]
    pieces += [bad]
    pieces += [Piece(short) for _ in range(good)]
    came = await on.play(pieces)
    assert [Status.SUCCEEDED] * good == [outcome.status for outcome in came[:good]]
    assert [Status.SUCCEEDED] * good == [outcome.status for outcome in came[good + 1 :]]
    after = await on.play([Piece(quick), *(Piece(short) for _ in range(good))])
    assert {Status.SUCCEEDED} == {outcome.status for outcome in after}
    return came[good]


@pytest.mark.parametrize("first_waits", [False, True])
@pytest.mark.parametrize("kind", [type(error).__name__ for error in RAISED])
async def test_whatever_is_raised_fails_one_job(kind: str, first_waits: bool) -> None:
    """Whatever a handler raises is its own job's failure, by name, and the slots live on."""
    error = next(error for error in RAISED if kind == type(error).__name__)
    async with stage(2) as on:
        outcome = await between_good_ones(on, Piece(raising(error, first_waits=first_waits)))
        assert on.is_whole(2)
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert kind == outcome.failure.type


async def test_start_may_raise() -> None:
    """Work that raises before there is anything to await fails as any other."""

    def refuse() -> Awaitable[None]:
        raise LookupError("no such thing")

    async with stage(1) as on:
        outcome = await between_good_ones(on, Piece(refuse))
        assert on.is_whole(1)
    assert "LookupError: no such thing" == str(outcome.failure)


async def cancel_self_and_wait() -> None:
    if native.on_asyncio():
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await anyio.lowlevel.checkpoint()
    raise ValueError("went on")


async def cancel_self_and_return() -> str:
    if native.on_asyncio():
        for _ in range(3):
            asyncio.current_task().cancel()  # type: ignore[union-attr]
    return "returned"


async def cancel_self_and_raise() -> None:
    await cancel_self_and_return()
    raise ValueError("raised")


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (cancel_self_and_wait, Status.FAILED),
        (cancel_self_and_return, Status.SUCCEEDED),
        (cancel_self_and_raise, Status.FAILED),
    ],
)
async def test_a_handler_that_cancels_itself_is_alone_in_it(handler: Any, status: Status) -> None:
    """A handler that cancels its asyncio object harms no later job, whether it awaits then, returns or raises."""
    async with stage(1) as on:
        for _ in range(3):
            assert status is (await between_good_ones(on, Piece(handler))).status
        assert on.is_whole(1)


async def test_an_idle_slot_that_is_cancelled_is_replaced() -> None:
    """A cancellation that a handler scheduled, and that comes when its slot is idle, costs nobody anything."""

    async def cancel_later() -> None:
        if native.on_asyncio():
            asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)  # type: ignore[union-attr]

    async with stage(1) as on:
        piece = Piece(cancel_later)
        await on.play([piece])
        if native.on_asyncio():
            while piece.seen[0] in on.pool._slots.values():
                await anyio.sleep(0.001)
        assert Status.SUCCEEDED is (await between_good_ones(on, Piece(quick))).status
        assert on.is_whole(1)


async def test_a_stray_coroutine_is_left_alone() -> None:
    """What a handler started beside itself, on asyncio, goes on, fails or is cancelled without a word to the pool."""
    ended = anyio.Event()
    strays: list[Any] = []

    async def stray() -> None:
        try:
            await anyio.sleep(0.01)
        finally:
            ended.set()

    async def handler() -> None:
        if native.on_asyncio():
            strays.append(asyncio.get_running_loop().create_task(stray()))
        else:
            ended.set()

    async with stage(1) as on:
        assert Status.SUCCEEDED is (await between_good_ones(on, Piece(handler))).status
        await ended.wait()
        assert on.is_whole(1)


async def leave_value() -> None:
    VARIABLE.set("left behind")


async def leave_value_and_raise() -> None:
    VARIABLE.set("left behind")
    raise ValueError("raised")


async def leave_value_and_hang() -> None:
    VARIABLE.set("left behind")
    await anyio.sleep_forever()


async def leave_incomparable() -> None:
    VARIABLE.set(Incomparable())  # type: ignore[arg-type]


@pytest.mark.parametrize("handler", [leave_value, leave_value_and_raise, leave_value_and_hang, leave_incomparable])
async def test_context_variables_stay_with_their_job(handler: Any) -> None:
    """A context variable that a handler sets is seen by no later job, whether it returned, raised or timed out."""

    async def look() -> object:
        return VARIABLE.get()

    before = VARIABLE.set(Incomparable() if handler is leave_incomparable else "the program's")  # type: ignore[arg-type]
    try:
        async with stage(1) as on:
            expected = VARIABLE.get()
            for _ in range(2):
                await on.play([Piece(handler, timeout_s=0.01)])
                (outcome,) = await on.play([Piece(look)])
                assert outcome.value is expected
            assert on.is_whole(1)
    finally:
        VARIABLE.reset(before)


async def test_an_exception_in_answer_to_a_timeout_harms_nobody() -> None:
    """A handler that raises something else when it is cancelled has timed out, and the next job runs unharmed."""

    async def spoil() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("spoilt")

    async def replace() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001 - as badly written handlers do
            raise asyncio.CancelledError from None

    async def in_a_group() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(spoil)
            await anyio.sleep_forever()

    async with stage(1) as on:
        for handler in (spoil, replace, in_a_group):
            for _ in range(2):
                outcome = await between_good_ones(on, Piece(handler, timeout_s=0.01))
                assert Status.TIMED_OUT is outcome.status, handler
        assert on.is_whole(1)


async def test_pool_cancelled_from_above_leaves_an_outcome_for_each() -> None:
    """Work that runs when the whole pool is cancelled ends as interrupted, whatever it raises then."""

    async def spoil() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("spoilt")

    async with stage(4) as on:
        on.pool.offer([Piece(anyio.sleep_forever), Piece(spoil), Piece(anyio.sleep_forever)])
        while on.pool.busy < 3:
            await anyio.sleep(0.001)
    assert [Status.INTERRUPTED] * 3 == [outcome.status for outcome in on.outbox.items]
    assert on.pool.busy == 0


async def test_cancelling_a_free_slot_does_nothing() -> None:
    """A slot that is told to stop between two jobs does not pass that on to the next."""
    async with stage(1) as on:
        piece = Piece(quick)
        await on.play([piece])
        piece.seen[0].cancel("cancel")
        assert Status.SUCCEEDED is (await between_good_ones(on, Piece(short))).status


async def test_each_reason_gives_its_status() -> None:
    """The reason given with a cancellation decides the outcome, and the first one stands."""
    expected = {
        "cancel": Status.CANCELLED,
        "drain": Status.INTERRUPTED,
        "lost_lease": Status.INTERRUPTED,
        "timeout": Status.TIMED_OUT,
    }
    async with stage(1) as on:
        for reason, status in expected.items():
            on.pool.offer([Piece(anyio.sleep_forever)])
            while not on.pool.busy:
                await anyio.sleep(0.001)
            assert 1 == on.pool.cancel_all(reason)
            on.pool.cancel_all("cancel")
            await on.pool.wait_quiet()
            assert status is on.outbox.items[-1].status
        assert on.is_whole(1)


async def leave_scope_open() -> str:
    anyio.CancelScope().__enter__()
    return "left"


async def leave_cancelled_scope_open() -> str:
    anyio.CancelScope().__enter__().cancel()
    return "left"


async def leave_scope_and_hang() -> None:
    anyio.CancelScope().__enter__()
    await anyio.sleep_forever()


@pytest.mark.parametrize("handler", [leave_scope_open, leave_cancelled_scope_open, leave_scope_and_hang])
async def test_a_scope_left_open_costs_only_a_slot(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that leaves a cancel scope open, a defect of its own, costs the pool no slot for long."""
    async with stage(2) as on:
        for _ in range(3):
            piece = Piece(handler, timeout_s=0.01)
            (outcome,) = await on.play([piece])
            assert (Status.TIMED_OUT if handler is leave_scope_and_hang else Status.SUCCEEDED) is outcome.status
            on.pool.resize(1)
            on.pool.resize(2)
            for _ in range(3):
                await on.play([Piece(anyio.sleep_forever, timeout_s=0.01), Piece(anyio.sleep_forever, timeout_s=0.01)])
        while not on.is_whole(2):
            await anyio.sleep(0.001)
        assert ["done"] * 9 == [outcome.value for outcome in await on.play([Piece(short) for _ in range(9)])]
    assert "left a cancel scope open" in caplog.text
