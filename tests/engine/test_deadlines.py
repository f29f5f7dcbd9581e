"""What is promised of deadlines: late in time and in order, never early, and no hold on whoever owned them."""

import gc
import weakref

import anyio
import pytest

from headrace.engine.deadlines import KEPT_COUNT, Deadlines
from headrace.workers import native

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


class Late:
    """Keeps who was late, in their order."""

    def __init__(self, count: int) -> None:
        self.who: list[str] = []
        self.enough = anyio.Event()
        self._count = count

    def __call__(self, who: str) -> None:
        """Take one in."""
        self.who.append(who)
        if len(self.who) == self._count:
            self.enough.set()

    async def wait(self) -> list[str]:
        """Return them once there are enough."""
        with anyio.fail_after(WAIT_S):
            await self.enough.wait()
        return self.who


async def test_who_waits_is_late_in_turn_and_not_early() -> None:
    """Shorter spans come first, equal ones in the order in which they began."""
    late, began_s = Late(4), native.loop_clock()()
    deadlines = Deadlines(late)
    for who, span_s in (("c", 0.1), ("a", 0.05), ("b", 0.05), ("d", 0.1)):
        deadlines.add(who, span_s)
    assert ["a", "b", "c", "d"] == await late.wait()
    assert native.loop_clock()() - began_s >= 0.1


async def test_who_began_later_is_late_later() -> None:
    """One span's timer goes on to the next of its line."""
    late, began_s = Late(2), native.loop_clock()()
    deadlines = Deadlines(late)
    deadlines.add("a", 0.1)
    await anyio.sleep(0.05)
    deadlines.add("b", 0.1)
    assert ["a", "b"] == await late.wait()
    assert native.loop_clock()() - began_s >= 0.15


async def test_who_was_removed_is_not_late() -> None:
    """Whoever left, first or last of a line, is passed over; removing twice does no harm."""
    late = Late(1)
    deadlines = Deadlines(late)
    for who in "abc":
        deadlines.add(who, 0.05)
    for who in "aca":
        deadlines.remove(who, 0.05)
    deadlines.remove("x", 3.0)
    assert ["b"] == await late.wait()
    deadlines.remove("b", 0.05)


async def test_one_who_is_late_may_remove_another() -> None:
    """What is called may take others of the same line out of it, and put new ones in."""
    said: list[str] = []
    enough = anyio.Event()

    def be_late(who: str) -> None:
        said.append(who)
        deadlines.remove(who, 0.05)
        if who == "a":
            deadlines.add("z", 0.05)
        if who == "z":
            enough.set()

    deadlines = Deadlines(be_late)
    for who in "ab":
        deadlines.add(who, 0.05)
    with anyio.fail_after(WAIT_S):
        await enough.wait()
    assert ["a", "b", "z"] == said


async def test_lines_without_anybody_are_few() -> None:
    """Spans of many lengths that nobody waits for any more are forgotten, and their timers called off."""
    late = Late(1)
    deadlines = Deadlines(late)
    for number in range(10 * KEPT_COUNT):
        deadlines.add("a", 1000.0 + number)
        deadlines.remove("a", 1000.0 + number)
    assert len(deadlines._lines) <= KEPT_COUNT + 1
    deadlines.add("b", 0.01)
    assert ["b"] == await late.wait()


async def test_a_timer_holds_nobody() -> None:
    """Deadlines that nobody has any more go, although a timer of theirs still runs."""
    deadlines = Deadlines(Late(1))
    deadlines.add("a", 1000.0)
    gone = weakref.ref(deadlines)
    del deadlines
    gc.collect()
    assert None is gone()


async def test_a_place_that_was_woken_is_not_waited_in() -> None:
    """Woken before, while or after somebody waits there, and twice: nobody waits for ever."""
    parking = native.parking()
    woken = parking.place()
    parking.wake(woken)
    parking.wake(woken)
    place = parking.place()

    async def wait() -> None:
        await parking.park(place)

    with anyio.fail_after(WAIT_S):
        await parking.park(woken)
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            parking.wake(place)
    parking.wake(place)


async def test_a_place_whose_coroutine_was_cancelled_can_be_woken() -> None:
    """Waking nobody does nothing."""
    parking = native.parking()
    place = parking.place()
    with anyio.move_on_after(0.01) as scope:
        await parking.park(place)
    assert scope.cancelled_caught
    parking.wake(place)
