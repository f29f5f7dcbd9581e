"""Suspects: one runs, one waits, the others go round again; and a lost registration leaves no place taken."""

import time

import anyio
import msgspec
import pytest

from headrace import Engine
from headrace.engine.broker.port import Bound, Caution, Lease, Source, Submission
from headrace.engine.loops.assigner import Assigner
from headrace.engine.loops.assignment import Assignment, BoundHandler, Terms
from headrace.engine.loops.suspects import FIRST_PAUSE_MS, LONGEST_PAUSE_MS, Suspects, suspect_from
from headrace.jobs.codec import EnvelopeOptions, pack_envelope, unpack_envelope
from headrace.jobs.handler import HandlerOptions, HandlerPlan
from headrace.jobs.outcome import Outcome, Status

pytestmark = pytest.mark.anyio

SOURCE = Source("q", "w")


async def ok(number: int) -> int:
    return number


def suspect(number: int = 1, *, starts: int = 4, deliveries: int = 0, max_deliveries: int = 5) -> Assignment:
    """Return a job as the assigner hands it on."""
    terms = Terms(timeout_s=0, ttl_ms=0, max_deliveries=max_deliveries)
    bound = BoundHandler(HandlerPlan(ok, HandlerOptions(name="ok")), ok, terms=terms)
    options = EnvelopeOptions(deliveries=deliveries) if deliveries else None
    lease = Lease(SOURCE, b"%d-0" % number, pack_envelope("ok", b"\x91\x01", options=options), starts=starts)
    ((found,),) = Assigner({"ok": bound}, 0, 1000, lambda _: None).assign([lease]).values()
    return found


def done(*assignments: Assignment) -> list[Outcome]:
    return [Outcome(assignment, Status.SUCCEEDED) for assignment in assignments]


def test_one_runs_and_one_waits() -> None:
    """Of many suspects the first may start, the second waits for it, and the third waits for neither."""
    suspects, batch = Suspects({"ok": 5}, 5), [suspect(number) for number in range(3)]
    assert Caution(3, 1) == suspects.caution
    assert batch[:1] == suspects.sift(batch)
    assert (1, Caution(3, 0)) == (suspects.waiting, suspects.caution)
    assert [batch[2].lease] == [outcome.work.lease for outcome in suspects.turned_away()]
    assert [] == suspects.turned_away()
    assert suspects.next_after(done(suspect())) is None
    assert batch[1] is suspects.next_after(done(batch[0]))
    assert suspects.next_after(done(batch[1])) is None
    assert (0, Caution(3, 1)) == (suspects.waiting, suspects.caution)


def test_who_is_turned_away_comes_later_and_keeps_its_starts() -> None:
    """The more of them come, the longer the pause; their starts go with them, for their entry ends."""
    suspects = Suspects({"ok": 9}, 9)
    suspects.sift([suspect(number, starts=7, deliveries=1, max_deliveries=9) for number in range(2000)])
    turned_away = [outcome.work for outcome in suspects.turned_away()]
    assert 1998 == len(turned_away)
    assert (FIRST_PAUSE_MS, LONGEST_PAUSE_MS) == (turned_away[0].delay_ms, turned_away[-1].delay_ms)
    assert EnvelopeOptions(deliveries=8, starts=8) == unpack_envelope(turned_away[0].body).options


def test_each_job_is_judged_by_its_own_handler() -> None:
    """Four starts are nothing for a handler that allows ten, although another one allows five; the sweep is told so."""
    suspects = Suspects({"strict": 5, "ok": 10}, 5)
    lax = [suspect(number, max_deliveries=10) for number in range(3)]
    assert lax == suspects.sift(lax)
    assert (0, Caution(3, 1, {"ok": 8})) == (suspects.waiting, suspects.caution)


def test_a_job_that_ran_beside_one_death_is_no_suspect_yet() -> None:
    """Unless it may die but once more, a job's first orphaning makes it wait for nobody."""
    assert {1: 1, 2: 1, 3: 2, 4: 3, 5: 3, 6: 4, 1000: 998} == {n: suspect_from(n) for n in (1, 2, 3, 4, 5, 6, 1000)}


def test_a_suspect_that_was_taken_back_makes_room_for_the_next() -> None:
    """With the registration go the suspect that waited and the one that had not started; one that runs stays."""
    suspects, first, second, third = Suspects({"ok": 5}, 5), suspect(1), suspect(2), suspect(3)
    suspects.sift([first, second])
    assert [second] == suspects.take_back()
    assert [third] == suspects.sift([third])
    assert [] == suspects.take_back(running=[object(), third])
    assert [] == suspects.sift([second])
    assert second is suspects.next_after(done(third))


def test_who_waits_may_be_withdrawn() -> None:
    """The one that waits is taken out when chosen, or old, and another may wait then; the one that runs is not."""
    suspects, first, second, third = Suspects({"ok": 5}, 5), suspect(1), suspect(2), suspect(3)
    suspects.sift([first, second])
    assert [] == suspects.withdraw(lambda job: job is first)
    assert [second] == suspects.withdraw(lambda job: job is second)
    before_s = time.monotonic()
    assert [] == suspects.sift([third])
    assert [] == suspects.take_old(before_s - 1)
    assert [third] == suspects.take_old(time.monotonic() + 1)
    assert (0, None) == (suspects.waiting, suspects.next_after(done(first)))


async def test_thousands_of_suspects_stay_in_the_queue() -> None:
    """A worker holds one suspect beside the one that runs, and shows it; it gets to the job that is behind them all."""
    engine = Engine("memory://", slots=2, drain_timeout=0)
    running = anyio.Event()

    @engine.job
    async def held(number: int) -> None:
        running.set()
        await anyio.sleep_forever()

    @engine.job
    async def harmless() -> str:
        return "done"

    body = b"\x95\x01\xa4held" + msgspec.msgpack.encode([1]) + b"\x80" + msgspec.msgpack.encode({"deliveries": 3})
    broker = engine.connection.open()
    for number in range(4):
        broker.publish("default", [Submission(body)] * 500, f"t{number}", Bound())
    async with engine.running():
        with anyio.fail_after(30):
            await running.wait()
            assert "done" == await (await harmless.submit()).result()
            while broker.queues(["default"])[0].running != 2:
                await anyio.sleep(0.01)
            assert 1 == engine.statistics().backpressure.prefetched
            assert broker.queues(["default"])[0].delayed >= 1000
