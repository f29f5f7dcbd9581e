"""What the thread runner promises beyond tests/conformance/test_runners.py."""

import asyncio
import contextvars
import threading

import anyio
import pytest

from headrace.workers.runner import RemoteFailure
from headrace.workers.runners.thread import ThreadRunner
from runner_handlers import DEADLINE_S, plan_of, until

pytestmark = pytest.mark.anyio


async def test_context_variables_are_copied() -> None:
    """A thread handler sees the slot's context variables, and what it sets stays its own."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def handler() -> None:
        seen.append(variable.get())
        variable.set("thread's")

    variable.set("slot's")
    async with ThreadRunner(1) as runner:
        await runner.bind(plan_of(handler, "thread"))()

    assert (["slot's"], "slot's") == (seen, variable.get())


async def test_a_thread_may_run_a_loop() -> None:
    """A thread handler can run an event loop of its own."""

    async def inner() -> str:
        await anyio.lowlevel.checkpoint()
        return "ran"

    async with ThreadRunner(1) as runner:
        assert "ran" == await runner.bind(plan_of(lambda: anyio.run(inner), "thread"))()


async def test_threads_are_bounded_and_reused() -> None:
    """No more threads than slots are started, and they are reused."""
    idents = set()

    async with ThreadRunner(2) as runner:
        note = runner.bind(plan_of(lambda: idents.add(threading.get_ident()), "thread"))
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(note)

    assert 1 <= len(idents) <= 2


async def test_an_abandoned_thread_stays_counted() -> None:
    """A cancelled slot goes on at once, its thread stays counted until it ends, and its place stays taken."""
    started, release, ran = threading.Event(), threading.Event(), []

    def block() -> None:
        started.set()
        release.wait()

    with anyio.fail_after(DEADLINE_S):
        async with ThreadRunner(1) as runner, anyio.create_task_group() as group:
            group.start_soon(runner.bind(plan_of(block, "thread")))
            await until(started.is_set)
            with anyio.move_on_after(0.01):  # waits for the only thread, and must then never run
                await runner.bind(plan_of(lambda: ran.append("too late"), "thread"))()
            group.cancel_scope.cancel()
        counted = (runner.running, runner.abandoned)
        release.set()
        await until(lambda: not runner.running)

    assert ((1, 1), []) == (counted, ran)


async def test_a_stack_shows_where_it_is() -> None:
    """The stack of a running job is shown from the handler on, and none once it has ended."""
    started, release, tokens = threading.Event(), threading.Event(), []

    def stuck_here() -> None:
        started.set()
        release.wait()

    async def slot(runner: ThreadRunner) -> None:
        tokens.append(anyio.get_current_task().id)
        await runner.bind(plan_of(stuck_here, "thread"))()

    with anyio.fail_after(DEADLINE_S):
        async with ThreadRunner(1) as runner:
            async with anyio.create_task_group() as group:
                group.start_soon(slot, runner)
                await until(started.is_set)
                stack = runner.stack_of(tokens[0])
                release.set()
            after = runner.stack_of(tokens[0])

    assert "in stuck_here" in stack.splitlines()[0]
    assert "release.wait()" in stack
    assert not after


async def test_a_handlers_own_cancellation_is_a_failure() -> None:
    """A CancelledError that a thread handler raises does not look like the cancellation of its slot."""

    def raise_cancelled() -> None:
        raise asyncio.CancelledError

    async with ThreadRunner(1) as runner:
        with pytest.raises(RemoteFailure, match="CancelledError"):
            await runner.bind(plan_of(raise_cancelled, "thread"))()


async def test_the_loop_goes_on() -> None:
    """While a thread handler blocks, the loop serves others."""
    release = threading.Event()
    with anyio.fail_after(DEADLINE_S):
        async with ThreadRunner(1) as runner, anyio.create_task_group() as group:
            group.start_soon(runner.bind(plan_of(release.wait, "thread")))
            await anyio.sleep(0.01)
            release.set()
