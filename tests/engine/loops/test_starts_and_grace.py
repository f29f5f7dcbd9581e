"""What a job carries through its reschedules: how often it was started, and since when nobody knew its handler."""

import time

import anyio
import pytest

from headrace import Context, Engine, JobFailed, Retry
from headrace.engine.broker.port import Lease, Source
from headrace.engine.loops.assigner import Assigner
from headrace.engine.loops.assignment import Unread
from headrace.jobs.codec import EnvelopeOptions, pack_envelope, unpack_envelope
from headrace.jobs.outcome import Outcome

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000


def unread(options: EnvelopeOptions | None, starts: int = 0, grace_s: float = 60) -> Unread:
    """Return what an assigner without handlers makes of a job that was submitted a year ago."""
    put: list[Outcome] = []
    entry = b"%d-0" % (int(time.time() * 1000) - 365 * DAY_MS)
    lease = Lease(Source("q", "w"), entry, pack_envelope("later", options=options), starts=starts)
    assert {} == Assigner({}, grace_s, 1000, put.append).assign([lease])
    (outcome,) = put
    found = outcome.work
    assert isinstance(found, Unread)
    return found


async def test_the_fence_grows_with_every_start() -> None:
    """Each try has a higher fence than the one before, and the dead letter knows of all of them."""
    engine, fences = Engine("memory://"), []

    @engine.job(retry=Retry(attempts=3, delay=0.01))
    async def flaky(ctx: Context) -> None:
        fences.append(ctx.fence[1])
        raise OSError

    async with engine.running():
        with pytest.raises(JobFailed), anyio.fail_after(20):
            await (await flaky.submit()).result()
    assert [1, 2, 3] == fences


async def test_the_grace_begins_when_a_worker_meets_the_job() -> None:
    """However old a job is, it goes round when its handler is first found unknown, and carries since when."""
    before_ms = int(time.time() * 1000)
    found = unread(None)
    options = unpack_envelope(found.body).options
    assert 1000 == found.delay_ms
    assert options is not None
    assert before_ms <= (options.unknown_since_ms or 0) <= int(time.time() * 1000)


async def test_the_grace_ends() -> None:
    """Once it is over the job is given up; until then the pauses grow; without any it is given up at once."""
    now_ms = int(time.time() * 1000)
    assert 0 == unread(EnvelopeOptions(unknown_since_ms=now_ms - 61_000)).delay_ms
    assert 30_000 <= unread(EnvelopeOptions(unknown_since_ms=now_ms - 30_000)).delay_ms < 60_000
    assert 0 == unread(None, grace_s=0).delay_ms


async def test_a_clock_that_is_ahead_does_not_prolong_the_grace() -> None:
    """A time to come becomes the present."""
    found = unread(EnvelopeOptions(unknown_since_ms=2**53))
    options = unpack_envelope(found.body).options
    assert options is not None
    assert (options.unknown_since_ms or 0) <= int(time.time() * 1000)


async def test_going_round_keeps_the_starts_of_the_entry() -> None:
    """Starts under a worker that knew the handler and died are not forgotten by one that does not know it."""
    options = unpack_envelope(unread(EnvelopeOptions(deliveries=1, starts=3), starts=2).body).options
    assert options is not None
    assert (3, 5) == (options.deliveries, options.starts)
    assert 3 == unread(EnvelopeOptions(starts=3), grace_s=0).options.starts_before
