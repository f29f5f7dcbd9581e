"""What every runner promises, tried on all three; what is special to one is in tests/workers/."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import runner_handlers as handlers
from headrace.jobs.failures import failure_of
from headrace.workers.context import Context, JobInfo
from headrace.workers.runner import Runner
from headrace.workers.runners.coroutine import CoroutineRunner
from headrace.workers.runners.process import ProcessRunner
from headrace.workers.runners.thread import ThreadRunner
from runner_handlers import DEADLINE_S, plain, plan_of

pytestmark = pytest.mark.anyio

MAKERS: dict[str, Callable[[], Runner]] = {
    "async": CoroutineRunner,
    "thread": lambda: ThreadRunner(4),
    "process": lambda: ProcessRunner(2),
}


@pytest.fixture(params=MAKERS)
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[Runner]:
    with anyio.fail_after(DEADLINE_S):
        async with MAKERS[request.param]() as made:
            yield made


def bound(runner: Runner, name: str) -> Callable[..., Any]:
    """Bind the handler `name`, or its async twin for the runner that takes those."""
    return runner.bind(plan_of(getattr(handlers, f"{name}_async" if runner.name == "async" else name), runner.name))


class TestEveryRunner:
    async def test_returns_the_value(self, runner: Runner) -> None:
        """A handler's return value comes back, whether arguments go by place, by name or by default."""
        add = bound(runner, "add")

        assert [3, 3, 2] == [plain(await add(1, 2)), plain(await add(1, b=2)), plain(await add(1))]

    async def test_runs_many_at_a_time(self, runner: Runner) -> None:
        """More concurrent calls than slots all end, each with its own value."""
        add = bound(runner, "add")
        got: dict[int, int] = {}

        async def one(number: int) -> None:
            got[number] = plain(await add(number, number))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, number)

        assert {number: 2 * number for number in range(20)} == got

    async def test_tells_of_the_exception(self, runner: Runner) -> None:
        """A handler's exception arrives with type, message, ancestors and a traceback that begins at the handler."""
        with pytest.raises(Exception, match="no such row: x") as caught:
            await bound(runner, "fail")("x")
        trace = caught.value.__traceback__
        failure = failure_of(caught.value.with_traceback(trace and trace.tb_next))  # without the frame of this test

        assert ("OddRowError", "no such row: x") == (failure.type, failure.message)
        assert ("runner_handlers.OddRowError", "builtins.ValueError", "builtins.Exception") == failure.ancestors
        assert 'raise OddRowError(f"no such row: {word}")' in failure.traceback
        assert "runner_handlers.py" in failure.traceback.splitlines()[1]

    async def test_hands_over_the_context(self, runner: Runner) -> None:
        """A handler that wants the Context gets it first, and the same facts in it on every runner."""
        context = Context(JobInfo("id-1", "about", "default", 2, 3))

        assert ["id-1", "about", 2, 3, None, "more"] == plain(await bound(runner, "about")(context, "more"))

    async def test_takes_the_next_after_a_failure(self, runner: Runner) -> None:
        """A failed call leaves the runner as good as before."""
        fail, add = bound(runner, "fail"), bound(runner, "add")
        for _ in range(5):
            with pytest.raises(Exception, match="no such row"):
                await fail("x")

        assert 5 == plain(await add(2, 3))


@pytest.mark.parametrize("make", [MAKERS["thread"], MAKERS["process"]], ids=["thread", "process"])
class TestPlainFunctions:
    @pytest.mark.parametrize(("name", "kind"), [("leave", "SystemExit"), ("interrupt", "KeyboardInterrupt")])
    async def test_exits_are_failures(self, make: Callable[[], Runner], name: str, kind: str) -> None:
        """SystemExit and KeyboardInterrupt of a handler reach the slot as failures, and the next call is served."""
        with anyio.fail_after(DEADLINE_S):
            async with make() as runner:
                failure = None
                try:
                    await bound(runner, name)()
                except BaseException as error:  # noqa: BLE001 - that it is one is the point
                    failure = failure_of(error)

                assert failure is not None
                assert (kind, (f"builtins.{kind}",)) == (failure.type, failure.ancestors)
                assert 3 == plain(await bound(runner, "add")(1, 2))

    async def test_instructions_survive(self, make: Callable[[], Runner]) -> None:
        """RetryJob's delay and FailJob's finality survive the way to the slot."""
        with anyio.fail_after(DEADLINE_S):
            async with make() as runner:
                with pytest.raises(Exception) as retried:  # noqa: PT011 - the classes differ, their failures do not
                    await bound(runner, "postpone")()
                with pytest.raises(Exception, match="never works") as failed:
                    await bound(runner, "give_up")()

        assert (4.0, False) == (failure_of(retried.value).retry_delay_s, failure_of(retried.value).final)
        assert (None, True) == (failure_of(failed.value).retry_delay_s, failure_of(failed.value).final)


class TestCoroutines:
    async def test_binding_costs_nothing(self) -> None:
        """An async handler is bound to itself."""
        async with CoroutineRunner() as runner:
            assert handlers.add_async is runner.bind(plan_of(handlers.add_async, "async"))

    async def test_stops_on_cancel(self) -> None:
        """A cancelled slot ends an async handler."""
        async with CoroutineRunner() as runner:
            with anyio.move_on_after(0.01) as scope:
                await runner.bind(plan_of(anyio.sleep_forever, "async"))()

            assert scope.cancelled_caught
