"""What the process runner promises beyond tests/conformance/test_runners.py."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import runner_handlers as handlers
from headrace.jobs.errors import ConfigError, InvalidArguments, JobCrashed, PayloadTooLarge
from headrace.workers.context import Context, JobInfo
from headrace.workers.runners.frames import UnpackableResult
from headrace.workers.runners.process import ProcessRunner, ProcessSettings
from headrace.workers.runners.reporting import SEND_EVERY_S
from runner_handlers import DEADLINE_S, is_alive, plain, plan_of, until

pytestmark = pytest.mark.anyio


def says(path: Path, text: str) -> bool:
    return path.exists() and text == path.read_text(encoding="utf-8")


async def test_children_stay_warm() -> None:
    """Calls one after the other are served by one child, which is not this process, in its main thread."""
    with anyio.fail_after(DEADLINE_S):
        async with ProcessRunner(2) as runner:
            ask = runner.bind(plan_of(handlers.process_id, "process"))
            pids = {plain(await ask()) for _ in range(5)}

            assert [*pids] == runner.pids
            assert os.getpid() not in pids
            assert plain(await runner.bind(plan_of(handlers.is_main_thread, "process"))())


async def test_warm_count_starts_some_at_once() -> None:
    """`warm_count` children are there before the first call."""
    async with ProcessRunner(3, ProcessSettings(warm_count=2)) as runner:
        assert 2 == len(runner.pids)


async def test_children_are_recycled() -> None:
    """A child is replaced after `calls_max_count` calls."""
    with anyio.fail_after(DEADLINE_S):
        async with ProcessRunner(1, ProcessSettings(calls_max_count=2)) as runner:
            ask = runner.bind(plan_of(handlers.process_id, "process"))
            pids = [plain(await ask()) for _ in range(4)]

    assert pids[0] == pids[1] != pids[2] == pids[3]


async def test_a_timeout_ends_the_process(tmp_path: Path) -> None:
    """A cancelled slot ends a loop that never yields, its `finally` runs, and the next call is served."""
    with anyio.fail_after(DEADLINE_S):
        async with ProcessRunner(1) as runner, anyio.create_task_group() as group:
            group.start_soon(runner.bind(plan_of(handlers.spin_telling, "process")), str(tmp_path / "told"))
            await until(lambda: says(tmp_path / "told", "running"))
            pids = runner.pids
            group.cancel_scope.cancel()

        assert says(tmp_path / "told", "cleaned up")
        assert not any(map(is_alive, pids))
        async with ProcessRunner(1) as runner:
            with anyio.move_on_after(0.1):
                await runner.bind(plan_of(handlers.spin, "process"))()

            assert 3 == plain(await runner.bind(plan_of(handlers.add, "process"))(1, 2))


async def test_a_stopped_child_does_not_tidy_up_after_python(tmp_path: Path) -> None:
    """Once its handler's `finally` ran, a cancelled child is gone, though a thread would keep its interpreter."""
    with anyio.fail_after(DEADLINE_S):
        async with ProcessRunner(1, ProcessSettings(kill_grace_s=5 * DEADLINE_S)) as runner:
            async with anyio.create_task_group() as group:
                spin = runner.bind(plan_of(handlers.spin_with_a_slow_end, "process"))
                group.start_soon(spin, str(tmp_path / "told"))
                await until(lambda: says(tmp_path / "told", "running"))
                [pid] = runner.pids
                group.cancel_scope.cancel()

            assert not is_alive(pid)
            assert says(tmp_path / "told", "cleaned up")


class TestProgress:
    """What a handler in a child says of how far it is reaches its Context's keeper in the parent."""

    async def test_the_last_is_there_before_the_value(self) -> None:
        """Thousands of notes make few frames; what was said right before the return has come when the value does."""
        notes: list[tuple[str, float, float | None]] = []
        context = Context(JobInfo("id-1", "count_up"), note_progress=lambda *note: notes.append(note))
        with anyio.fail_after(DEADLINE_S):
            async with ProcessRunner(1) as runner:
                count_up = runner.bind(plan_of(handlers.count_up, "process"))
                began_s = time.monotonic()
                assert 0.5 == plain(await count_up(context, 20_000, 0.5))
                took_s = time.monotonic() - began_s
                assert ("id-1", 0.5, None) == notes[-1]
                assert len(notes) <= took_s / SEND_EVERY_S + 3
                assert 7 == plain(await count_up(context, 1, 7))
                assert ("id-1", 7, None) == notes[-1]

    async def test_the_newest_comes_while_the_handler_goes_on(self, tmp_path: Path) -> None:
        """A note that followed another one closely is sent as well, though nothing more is said."""
        notes: list[tuple[str, float, float | None]] = []
        context = Context(JobInfo("id-1", "say_and_wait"), note_progress=lambda *note: notes.append(note))
        with anyio.fail_after(DEADLINE_S):
            async with ProcessRunner(1) as runner, anyio.create_task_group() as group:
                group.start_soon(
                    runner.bind(plan_of(handlers.say_and_wait, "process")), context, str(tmp_path / "seen")
                )
                await until(lambda: ("id-1", 2, 3) in notes)
                (tmp_path / "seen").touch()

    async def test_what_failed_had_come_so_far(self) -> None:
        """The note of a handler that then raised has come when its failure does."""
        notes: list[tuple[str, float, float | None]] = []
        context = Context(JobInfo("id-1", "say_and_fail"), note_progress=lambda *note: notes.append(note))
        with anyio.fail_after(DEADLINE_S):
            async with ProcessRunner(1) as runner:
                with pytest.raises(Exception, match="behind it"):
                    await runner.bind(plan_of(handlers.say_and_fail, "process"))(context)
        assert [("id-1", 4, 5)] == notes

    async def test_a_thread_that_was_left_behind_speaks_for_no_other_job(self) -> None:
        """Notes that come after their handler's end are nobody's."""
        notes: list[tuple[str, float, float | None]] = []
        first = Context(JobInfo("id-1", "leave_a_thread"))
        second = Context(JobInfo("id-2", "count_up"), note_progress=lambda *note: notes.append(note))
        with anyio.fail_after(DEADLINE_S):
            async with ProcessRunner(1) as runner:
                await runner.bind(plan_of(handlers.leave_a_thread, "process"))(first)
                for last in range(20):
                    await runner.bind(plan_of(handlers.count_up, "process"))(second, 3, last)
        assert 20 == len([done for _, done, total in notes if total is None])
        assert not [note for note in notes if note[1] == 99]


async def test_one_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    """A handler that ignores SIGTERM is killed after the grace, and its slot goes on only then."""
    with anyio.fail_after(DEADLINE_S):
        async with ProcessRunner(1, ProcessSettings(kill_grace_s=0.1)) as runner:
            async with anyio.create_task_group() as group:
                group.start_soon(runner.bind(plan_of(handlers.spin_stubbornly, "process")), str(tmp_path / "told"))
                await until(lambda: says(tmp_path / "told", "running"))
                [pid] = runner.pids
                group.cancel_scope.cancel()

            assert not is_alive(pid)
            assert [pid] != runner.pids


async def test_group_signals_end_no_job() -> None:
    """SIGTERM and SIGINT that the runner did not send leave a running job alone."""
    with anyio.fail_after(DEADLINE_S):
        async with ProcessRunner(1) as runner:
            survive = runner.bind(plan_of(handlers.survive_group_signals, "process"))

            assert "survived" == plain(await survive())


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("exit_hard", (3,), "exit code 3"),
        ("segfault", (), "SIGSEGV"),
        ("exit_leaving_offspring", (2.0,), "exit code 4"),
    ],
)
async def test_a_crash_is_told_of(name: str, args: tuple[Any, ...], words: str) -> None:
    """A child that dies gives JobCrashed in words, neighbours go on, and the next call is served by another."""
    neighbour: list[int] = []
    with anyio.fail_after(DEADLINE_S):
        async with ProcessRunner(2) as runner, anyio.create_task_group() as group:
            make = runner.bind(plan_of(handlers.make_bytes, "process"))

            async def others() -> None:
                neighbour.extend([len(plain(await make(1000))) for _ in range(100)])

            group.start_soon(others)
            began_at_s = time.monotonic()
            with pytest.raises(JobCrashed, match=words):
                await runner.bind(plan_of(getattr(handlers, name), "process"))(*args)
            took_s = time.monotonic() - began_at_s

            assert 3 == plain(await runner.bind(plan_of(handlers.add, "process"))(1, 2))

    assert [1000] * 100 == neighbour
    assert took_s < 1.5, "waited for the offspring, or for the grace"


async def test_an_idle_death_harms_no_job() -> None:
    """A child that was killed while idle is replaced before a job meets it."""
    with anyio.fail_after(DEADLINE_S):
        async with ProcessRunner(1) as runner:
            add = runner.bind(plan_of(handlers.add, "process"))
            await add(1, 2)
            [pid] = runner.pids
            os.kill(pid, 9)
            await until(lambda: not is_alive(pid))

            assert 7 == plain(await add(3, 4))
            assert [pid] != runner.pids


async def test_arguments_arrive_in_the_handlers_types() -> None:
    """Arguments are decoded by the handler's hints: tuples stay tuples and sets sets."""
    async with ProcessRunner(1) as runner:
        types = runner.bind(plan_of(handlers.types_of, "process"))

        assert ["tuple", "set"] == plain(await types((1, "a"), {1}))


async def test_wrong_arguments_are_refused() -> None:
    """Arguments that do not fit are refused before a child sees them."""
    async with ProcessRunner(1) as runner:
        with pytest.raises(InvalidArguments, match="'a'"):
            await runner.bind(plan_of(handlers.add, "process"))("one")

        assert [] == runner.pids


async def test_an_unpackable_result_is_told_of() -> None:
    """A result that msgpack cannot pack is an error of its own, and the child goes on."""
    async with ProcessRunner(1) as runner:
        with pytest.raises(UnpackableResult, match="make_object"):
            await runner.bind(plan_of(handlers.make_object, "process"))()

        assert 3 == plain(await runner.bind(plan_of(handlers.add, "process"))(1, 2))


async def test_large_values_pass() -> None:
    """Five megabytes pass in both directions."""
    size = 5 * 1024 * 1024
    async with ProcessRunner(1) as runner:
        assert size == len(plain(await runner.bind(plan_of(handlers.make_bytes, "process"))(size)))
        assert size == plain(await runner.bind(plan_of(handlers.length_of, "process"))(b"x" * size))


async def test_frames_are_bounded() -> None:
    """What is larger than the bound is refused in both directions, and the child goes on."""
    async with ProcessRunner(1, ProcessSettings(frame_max_bytes=10_000)) as runner:
        make = runner.bind(plan_of(handlers.make_bytes, "process"))
        with pytest.raises(UnpackableResult, match="too large"):
            await make(20_000)
        with pytest.raises(PayloadTooLarge, match="length_of"):
            await runner.bind(plan_of(handlers.length_of, "process"))(b"x" * 20_000)

        assert 9_000 == len(plain(await make(9_000)))


async def test_a_decorated_handler_is_unwrapped() -> None:
    """A handler object under the function's name is seen through on both sides."""
    async with ProcessRunner(1) as runner:
        assert "unwrapped" == plain(await runner.bind(plan_of(handlers.decorated.function, "process"))())


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """After the runner neither a process nor an open file is left, whatever happened inside, a raised error too."""
    async with ProcessRunner(1) as runner:
        await runner.bind(plan_of(handlers.add, "process"))(1, 2)
    before = len(os.listdir("/dev/fd"))
    pids: list[int] = []

    async def use_and_raise() -> None:
        async with ProcessRunner(3, ProcessSettings(warm_count=1)) as runner:
            with pytest.raises(JobCrashed):
                await runner.bind(plan_of(handlers.exit_hard, "process"))(1)
            async with anyio.create_task_group() as group:
                group.start_soon(runner.bind(plan_of(handlers.spin_telling, "process")), str(tmp_path / "told"))
                await until(lambda: says(tmp_path / "told", "running"))
                group.cancel_scope.cancel()
            pids.extend(runner.pids)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await use_and_raise()

    assert pids
    assert not any(map(is_alive, pids))
    assert before == len(os.listdir("/dev/fd"))


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (handlers.nameless, "lambda"),
        (handlers.outer(), "inside another function"),
        (handlers.add_async, "async function"),
    ],
)
async def test_what_cannot_be_found_is_refused(function: Callable[..., Any], fault: str) -> None:
    """A function that a child could not import by name is refused when it is bound, with the reason."""
    plan = plan_of(function, "thread" if function is not handlers.add_async else "auto")

    with pytest.raises(ConfigError, match=fault):
        ProcessRunner(1).bind(plan)


SCRIPT = """
import anyio, msgspec, sys
from headrace.jobs.handler import HandlerOptions, HandlerPlan
from headrace.workers.runners.process import ProcessRunner

def double(number: int) -> int:
    return 2 * number

def spin() -> None:
    print("spinning", flush=True)
    while True:
        pass

async def main():
    options = HandlerOptions(name="named", runner="process")
    async with ProcessRunner(1) as runner:
        if "spin" in sys.argv:
            await runner.bind(HandlerPlan(spin, options))()
        print(msgspec.msgpack.decode(await runner.bind(HandlerPlan(double, options))(21)), flush=True)

if __name__ == "__main__":
    print("main runs", flush=True)
    anyio.run(main)
"""


def test_a_script_is_loaded_without_its_main_part(tmp_path: Path) -> None:
    """A handler in a script works in a child, and the script's main part runs once."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )

    assert ("main runs\n42\n", "") == (done.stdout, done.stderr)


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """A runner's process that dies without a word takes its children with it, in the midst of a handler."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script), "spin"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert ["main runs\n", "spinning\n"] == [process.stdout.readline(), process.stdout.readline()]
        process.kill()
        # The child holds the other end of this pipe: it ends when the child is gone, which would else spin for ever.
        rest, _ = process.communicate(timeout=DEADLINE_S)

    assert not rest
