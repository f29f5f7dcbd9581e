"""A process handler whose result cannot be sent back: the job succeeded, and asking for the result says why not."""

import pytest

from headrace import Engine, ResultUnavailable
from headrace.jobs.outcome import Status, Unpackable
from headrace.workers.runners.frames import UnpackableResult
from headrace.workers.slot import Slot, failed
from runner_handlers import make_object

pytestmark = pytest.mark.anyio


class Idle:
    timeout_s, label, offered_at_s = 0.0, "make_object", 0.0


def test_the_slot_tells_a_success_whose_value_is_missing() -> None:
    """An UnpackableResult makes a succeeded outcome, with the reason in place of the value."""
    outcome = failed(Slot(0), Idle(), UnpackableResult("cannot be sent back"), 1.0)  # type: ignore[arg-type]
    assert (Status.SUCCEEDED, None) == (outcome.status, outcome.failure)
    assert isinstance(outcome.value, Unpackable)
    assert "cannot be sent back" == outcome.value.reason


async def test_the_job_succeeds_without_a_second_try() -> None:
    """The handler runs once, the job's status is succeeded, and its result is unavailable for the reason given."""
    engine = Engine("memory://", process_slots=1)
    handler = engine.job(runner="process")(make_object)
    async with engine.running():
        handle = await handler.submit()
        with pytest.raises(ResultUnavailable, match=r"succeeded, but what make_object\(\) returned cannot be sent"):
            await handle.result(timeout=30)
        assert "succeeded" == await handle.status()
        figures = engine.statistics().errors
        assert (0, 0, 0) == (figures.failed, figures.retried, figures.dead)
