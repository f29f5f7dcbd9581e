"""The Dispatcher's bounds: who waits, who is refused, who goes first, and what the statistics say of it."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from headrace.engine.loops.dispatcher import Dispatcher
from headrace.jobs.errors import ConfigError, JobFailed, JobTimedOut, QueueFull
from headrace.workers.context import Context
from noting_sink import NotingSink
from pool_scene import settle
from runner_handlers import until

pytestmark = pytest.mark.anyio


async def quick() -> str:
    return "done"


class Gate:
    """Handlers that note their start, and end when the gate opens."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.opened = anyio.Event()
        self.thread_opened = threading.Event()

    async def hold(self, name: Any = None) -> Any:
        self.started.append(name)
        await self.opened.wait()
        return name

    def hold_thread(self, name: Any = None) -> Any:
        self.started.append(name)
        assert self.thread_opened.wait(30)
        return name


async def test_submit_waits_and_submit_nowait_refuses() -> None:
    """With slots and backlog taken, submit_nowait raises QueueFull with the figures, and submit waits for room."""
    gate = Gate()
    with anyio.fail_after(30):
        async with Dispatcher(slots=2, backlog=3) as dispatcher, anyio.create_task_group() as group:
            tickets = [await dispatcher.submit(gate.hold, number) for number in range(5)]
            await until(lambda: len(gate.started) == 2)
            with pytest.raises(QueueFull, match="3 wait for 2 async slots") as refused:
                dispatcher.submit_nowait(gate.hold, 5)
            assert (3, 3, "backlog") == (refused.value.depth, refused.value.bound, refused.value.reason)
            late: list[Any] = []

            async def submit() -> None:
                late.append(await dispatcher.submit(gate.hold, 5))

            group.start_soon(submit)
            await settle()
            assert [] == late
            assert 1 == dispatcher.statistics().backpressure.refused
            gate.opened.set()
            await until(lambda: len(late) == 1)
            assert list(range(6)) == [await ticket.result() for ticket in tickets + late]
            assert "done" == await dispatcher.submit_nowait(quick).result()


async def test_first_come_first_served() -> None:
    """Submitters that wait are let in in their order, newcomers behind them."""
    gate = Gate()
    with anyio.fail_after(30):
        async with Dispatcher(slots=1, backlog=0) as dispatcher, anyio.create_task_group() as group:

            async def submit(number: int) -> None:
                await dispatcher.submit(gate.hold, number)
                with pytest.raises(QueueFull):
                    dispatcher.submit_nowait(gate.hold, "overtakes")

            await dispatcher.submit(gate.hold, 0)
            for number in range(1, 20):
                group.start_soon(submit, number)
                await settle()
            gate.opened.set()
    assert list(range(20)) == gate.started


async def test_who_gives_up_passes_the_place_on() -> None:
    """A submitter that is cancelled while it waits, or just when it was let in, holds up nobody behind it."""
    gate = Gate()
    with anyio.fail_after(30):
        async with Dispatcher(slots=1, backlog=0) as dispatcher, anyio.create_task_group() as group:
            await dispatcher.submit(gate.hold, 0)
            scopes = [anyio.CancelScope() for _ in range(5)]

            async def submit(number: int) -> None:
                with scopes[number]:
                    await dispatcher.submit(gate.hold, number)

            for number in range(1, 5):
                group.start_soon(submit, number)
                await settle()
            scopes[1].cancel()
            await settle()
            line = dispatcher._lines["async"]
            assert 3 == len(line.waiting)
            gate.opened.set()
            await until(lambda: line.promised > 0 or not line.waiting)
            scopes[2].cancel()
    assert [0, 3, 4] == [number for number in gate.started if number != 2]
    assert (0, 0) == (line.promised, len(line.waiting))


async def test_a_full_thread_pool_holds_up_no_coroutines() -> None:
    """Each pool has its own line: while submitters wait for threads, coroutines come and go; nobody starves."""
    gate = Gate()
    with anyio.fail_after(30):
        async with Dispatcher(slots=2, backlog=1, thread_slots=1) as dispatcher, anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(dispatcher.submit, gate.hold_thread, number)
            await until(lambda: len(dispatcher._lines["thread"].waiting) == 6)
            for _ in range(200):
                assert "done" == await (await dispatcher.submit(quick)).result()
            assert (1, 6) == (len(gate.started), len(dispatcher._lines["thread"].waiting))
            gate.thread_opened.set()
    assert list(range(8)) == sorted(gate.started)


async def test_room_is_found_though_the_backlog_stays_long() -> None:
    """With slow handlers a submitter is let in soon after one place is free, not only when half of the backlog is."""
    gates = [Gate() for _ in range(11)]
    with anyio.fail_after(30):
        async with Dispatcher(slots=1, backlog=10) as dispatcher, anyio.create_task_group() as group:
            for gate in gates:
                await dispatcher.submit(gate.hold)
            late: list[Any] = []

            async def submit() -> None:
                late.append(await dispatcher.submit(quick))

            group.start_soon(submit)
            await settle()
            assert [] == late
            gates[0].opened.set()
            await until(lambda: len(late) == 1)
            assert [False] * 10 == [gate.opened.is_set() for gate in gates[1:]]
            for gate in gates:
                gate.opened.set()


async def test_a_slow_sink_stops_submit_and_loses_nothing() -> None:
    """While a sink takes nothing, no more is accepted than slots, backlog and outbox hold; in the end it has all."""
    slots, backlog = 4, 50
    sink = NotingSink()
    sink.gate = anyio.Event()
    accepted = 0
    with anyio.fail_after(30):
        async with Dispatcher(slots=slots, backlog=backlog, sinks=[sink]) as dispatcher:

            async def submit() -> None:
                nonlocal accepted
                for _ in range(1000):
                    await dispatcher.submit(quick)
                    accepted += 1

            async with anyio.create_task_group() as group:
                group.start_soon(submit)
                seen = -1
                while seen != accepted:
                    seen = accepted
                    await anyio.sleep(0.05)
                # Taken by the sink, up to the outbox's bound; put by slots that were at it; running or waiting.
                assert backlog < accepted <= backlog + slots + slots + backlog
                shown = dispatcher.statistics().backpressure
                assert shown.prefetched <= shown.prefetch_max
                assert shown.settle_backlog_max <= shown.settle_backlog <= shown.settle_backlog_max + slots
                sink.gate.set()
    assert (1000, 1000) == (accepted, len(sink.outcomes))
    assert 1000 == len({id(outcome.work) for outcome in sink.outcomes})


class Callables:
    """Things that can be called."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __call__(self, number: int) -> int:
        return number + 1

    def method(self, number: int) -> int:
        return number + 1

    async def coroutine_method(self, number: int) -> int:
        return number + 1

    @staticmethod
    async def static(number: int) -> int:
        return number + 1


async def plus(number: int, *, function: int = 0, self: int = 1) -> int:  # names that submit's own could shadow
    return number + function + self


@pytest.mark.parametrize(
    ("function", "label"),
    [
        (Callables(), "Callables"),
        (Callables().method, "method"),
        (Callables().coroutine_method, "coroutine_method"),
        (Callables.static, "static"),
        (functools.partial(plus, self=1), "plus"),
        (lambda number: number + 1, "<lambda>"),
        ((41).__rpow__, "__rpow__"),
        (plus, "plus"),
    ],
)
async def test_whatever_can_be_called(function: Callable[..., Any], label: str) -> None:
    """Functions, methods, callable objects, partials and builtins run, coroutines in the loop and others in threads."""
    with anyio.fail_after(30):
        async with Dispatcher() as dispatcher:
            tickets = [await dispatcher.submit(function, 1) for _ in range(3)]
            assert [2 if label != "__rpow__" else 1] * 3 == [await ticket.result() for ticket in tickets]
            assert {label} == {ticket.label for ticket in tickets} == set(dispatcher.statistics().handlers)


async def test_keyword_arguments() -> None:
    """Keyword arguments reach the function, whatever they are called."""
    with anyio.fail_after(30):
        async with Dispatcher() as dispatcher:
            assert 6 == await (await dispatcher.submit(plus, 1, function=2, self=3)).result()
            assert 6 == await dispatcher.submit_nowait(plus, number=1, function=2, self=3).result()


async def test_plain_functions_run_in_threads() -> None:
    """A plain function runs in another thread, as many at once as there are thread slots."""
    barrier = threading.Barrier(3)

    def meet() -> int:
        barrier.wait(30)
        return threading.get_ident()

    with anyio.fail_after(30):
        async with Dispatcher(thread_slots=3) as dispatcher:
            tickets = [await dispatcher.submit(meet) for _ in range(3)]
            idents = {await ticket.result() for ticket in tickets}
    assert 3 == len(idents - {threading.get_ident()})


async def test_a_function_may_want_its_context() -> None:
    """A function whose first parameter is the Context gets it, with its deadline; a thread can ask it."""

    async def about(ctx: Context, word: str) -> list[Any]:
        return [ctx.id, ctx.name, ctx.attempt, ctx.deadline is not None, word]

    def polite(ctx: Context) -> None:
        while True:
            ctx.check_cancelled()

    with anyio.fail_after(30):
        async with Dispatcher(timeout=0.05) as dispatcher:
            ticket = await dispatcher.submit(about, "word")
            assert [ticket.job_id, "about", 1, True, "word"] == await ticket.result()
            with pytest.raises(JobTimedOut):
                await (await dispatcher.submit(polite)).result()


async def test_a_ticket_tells_everyone() -> None:
    """Several can wait for one ticket, early or late; each gets the value, or an error of its own with the cause."""

    async def fail() -> None:
        raise LookupError("nobody there")

    with anyio.fail_after(30):
        async with Dispatcher() as dispatcher:
            gate = Gate()
            ticket, failing = await dispatcher.submit(gate.hold, 7), await dispatcher.submit(fail)
            assert (False, None) == (ticket.done, ticket.status)
            values: list[int] = []
            errors: list[JobFailed] = []

            async def wait() -> None:
                values.append(await ticket.result())
                try:
                    await failing.result()
                except JobFailed as error:
                    errors.append(error)

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(wait)
                await settle()
                gate.opened.set()
            await wait()
    assert ([7] * 4, 4) == (values, len({id(error) for error in errors}))
    assert {"LookupError: nobody there"} == {error.error for error in errors}
    assert all(isinstance(error.__cause__, LookupError) for error in errors)
    assert (True, "succeeded", "failed") == (ticket.done, ticket.status, failing.status)
    assert "<Ticket 1 hold succeeded>" == repr(ticket)


async def test_resize() -> None:
    """Resized, the dispatcher runs as many at once as it was told, up and down; none at all is refused."""
    with anyio.fail_after(30):
        async with Dispatcher(slots=2) as dispatcher:
            for slots in (5, 1, 3):
                gate = Gate()
                dispatcher.resize(slots)
                tickets = [await dispatcher.submit(gate.hold) for _ in range(8)]
                await until(lambda gate=gate, slots=slots: len(gate.started) == slots)
                await settle()
                assert slots == len(gate.started) == dispatcher.statistics().concurrency.runners["async"].busy
                gate.opened.set()
                for ticket in tickets:
                    await ticket.result()
            with pytest.raises(ValueError, match="at least one slot"):
                dispatcher.resize(0)


async def test_the_statistics_add_up() -> None:
    """Counts, latencies, pools, bounds and sinks in the record agree with what was done."""

    async def fail() -> None:
        raise ValueError("no")

    sink = NotingSink()
    gate = Gate()
    with anyio.fail_after(30):
        async with Dispatcher(slots=10, backlog=20, thread_slots=3, timeout=60, sinks=[sink]) as dispatcher:
            tickets = [await dispatcher.submit(quick) for _ in range(100)]
            tickets += [await dispatcher.submit(fail) for _ in range(5)]
            for ticket in tickets:
                await ticket.wait()
            for _ in range(15):
                await dispatcher.submit(gate.hold)
            await until(lambda: len(gate.started) == 10)
            shown = dispatcher.statistics()
            gate.opened.set()
    assert (5, 0, 0) == (shown.errors.failed, shown.errors.timed_out, shown.errors.dead)
    assert {"quick", "fail", "hold"} == set(shown.handlers)
    assert 0 < shown.throughput.failed_per_s.last_60s < shown.throughput.completed_per_s.last_60s
    assert shown.throughput.completed_per_s.last_60s < shown.throughput.submitted_per_s.last_60s
    assert (13, 10, 10 / 13, 0) == (
        shown.concurrency.slots, shown.concurrency.busy, shown.concurrency.utilization, shown.concurrency.stuck,
    )  # fmt: skip
    assert (5, 40, 0, 20) == (
        shown.backpressure.prefetched, shown.backpressure.prefetch_max,
        shown.backpressure.settle_backlog, shown.backpressure.settle_backlog_max,
    )  # fmt: skip
    assert 105 == shown.backpressure.sinks["noting"].written
    assert shown.latency_ms.run.max is not None
    assert shown.latency_ms.total.max is not None
    assert 0 <= shown.latency_ms.run.max <= shown.latency_ms.total.max


@pytest.mark.parametrize(
    "options",
    [{"slots": 0}, {"thread_slots": 0}, {"backlog": -1}, {"timeout": "soon"}, {"sinks": [NotingSink(), NotingSink()]}],
)
async def test_arguments_out_of_bounds(options: dict[str, Any]) -> None:
    """An argument out of its bounds is refused when the Dispatcher is made."""
    with pytest.raises(ConfigError):
        Dispatcher(**options)
