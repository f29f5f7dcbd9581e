"""The outbox: everything put is taken once and in order, and its bells ring when they should."""

from types import SimpleNamespace

import anyio
import pytest

from headrace.jobs.outcome import Outcome, Status
from headrace.workers.outbox import Outbox
from pool_scene import settle

pytestmark = pytest.mark.anyio


def outcome(number: int) -> Outcome:
    return Outcome(SimpleNamespace(number=number), Status.SUCCEEDED)


def filled(count: int, bound: int = 100, count_due: int = 256) -> Outbox:
    outbox = Outbox(bound, count_due)
    for number in range(count):
        outbox.put(outcome(number))
    return outbox


async def rings(waiting: object, *ringing: object) -> list[bool]:
    """Wait for something while things are done one after another; say after which of them the wait was over."""
    over = False
    seen = []

    async def wait() -> None:
        nonlocal over
        await waiting  # type: ignore[misc]
        over = True

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await settle()
            for ring in ringing:
                ring()  # type: ignore[operator]
                await settle()
                seen.append(over)
            group.cancel_scope.cancel()
    return seen


async def test_taken_once_and_in_order() -> None:
    """Batches of any size together hold everything that was put, once and in order."""
    outbox = filled(10)
    taken = []
    for count_max in (3, 1, 4, 100):
        taken += outbox.take(count_max)
        outbox.written()
    assert list(range(10)) == [each.work.number for each in taken]
    assert ([], 0, 10) == (outbox.take(5), len(outbox), outbox.put_count)


async def test_what_is_being_written_counts_as_held() -> None:
    """The outbox is full at its bound, and stays so until what was taken is written."""
    outbox = filled(9, bound=10)
    assert not outbox.is_full
    outbox.put(outcome(9))
    assert outbox.is_full
    outbox.take(100)
    assert (True, 0, 10) == (outbox.is_full, len(outbox), outbox.in_hand)
    outbox.written()
    assert (False, 0) == (outbox.is_full, outbox.in_hand)


async def test_room_is_told_when_there_is_some() -> None:
    """Who waits for room goes on once what was written leaves the outbox below its bound."""
    outbox = filled(25, bound=10)

    def write() -> None:
        outbox.take(8)
        outbox.written()

    assert [False, True] == await rings(outbox.wait_room(), write, write)


async def test_the_first_outcome_rings() -> None:
    """Who waits for anything goes on at the first outcome."""
    outbox = filled(0)
    assert [True] == await rings(outbox.wait_any(), lambda: outbox.put(outcome(1)))


async def test_the_batch_is_due_at_its_count() -> None:
    """Who waits for company goes on when the due number is reached, and not before."""
    outbox = filled(1, count_due=3)
    put = lambda: outbox.put(outcome(1))  # noqa: E731
    assert [False, True] == await rings(outbox.wait_due(3600), put, put)


async def test_a_nudge_ends_the_wait_for_company() -> None:
    """Who waits for company goes on when told that none comes."""
    outbox = filled(1)
    assert [True] == await rings(outbox.wait_due(3600), outbox.nudge)


async def test_a_small_outbox_is_due_when_full() -> None:
    """An outbox whose bound is below the due number is due at its bound: no more can come."""
    outbox = filled(1, bound=2)
    assert 2 == outbox.count_due
    assert [True] == await rings(outbox.wait_due(3600), lambda: outbox.put(outcome(1)))


async def test_the_wait_for_company_ends_by_itself() -> None:
    """Who waits for company goes on after the given time."""
    with anyio.fail_after(20):
        await filled(1).wait_due(0.001)


async def test_cancelled_waits_leave_nothing_behind() -> None:
    """A wait that was cancelled takes no bell from a later one."""
    outbox = filled(0)
    for wait in (outbox.wait_any, lambda: outbox.wait_due(3600)):
        with anyio.move_on_after(0.001):
            await wait()
    assert [True] == await rings(outbox.wait_any(), lambda: outbox.put(outcome(1)))
    assert [True] == await rings(outbox.wait_due(3600), outbox.nudge)
