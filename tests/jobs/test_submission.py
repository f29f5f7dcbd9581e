"""What a submission may say, and what is refused before anything travels."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.jobs.codec import EnvelopeOptions, pack_envelope, unpack_envelope
from headrace.jobs.errors import InvalidArguments, PayloadTooLarge
from headrace.jobs.retry import Retry
from headrace.jobs.submission import DEFAULT, SubmitOptions, check_size, submit_options


class NoOffset(tzinfo):
    def utcoffset(self, at: datetime | None) -> None:
        return None

    def __repr__(self) -> str:
        return "NoOffset()"  # the same in each process that names its tests


def test_nothing_said_is_nothing_sent() -> None:
    """Without options an envelope has none."""
    assert DEFAULT == submit_options()
    assert submit_options().envelope is None


def test_what_is_said_is_in_base_units() -> None:
    """Spans become seconds or milliseconds, and what belongs to the job is in its envelope."""
    assert SubmitOptions(
        queue="mail", delay_ms=1500, on_full="wait", wait_timeout_s=2.0,
        envelope=EnvelopeOptions(timeout_s=30.0, attempts=3, result_ttl_s=0.0),
    ) == submit_options(
        queue="mail", delay=1.5, timeout="30s", retry=3, result_ttl=0, on_full="wait", wait_timeout=timedelta(seconds=2)
    )  # fmt: skip
    assert 1_777_636_800_000 == submit_options(at=datetime(2026, 5, 1, 12, tzinfo=UTC)).due_at_ms
    assert 1 == submit_options(at=datetime(1969, 1, 1, tzinfo=UTC)).due_at_ms


def test_a_retry_travels_whole() -> None:
    """A Retry says all of its numbers, None is one try, and classes cannot travel."""
    assert (
        EnvelopeOptions(attempts=4, delay_s=1.0, factor=3.0, max_delay_s=9.0, jitter=0.0)
        == submit_options(retry=Retry(4, 1.0, 3.0, 9.0, 0.0)).envelope
    )
    assert EnvelopeOptions(attempts=1) == submit_options(retry=None).envelope
    with pytest.raises(InvalidArguments, match="cannot travel"):
        submit_options(retry=Retry(on=(OSError,)))


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1}, {"delay": "soon"}, {"delay": float("inf")}, {"delay": 1e300}, {"delay": True},
        {"at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the point
        {"at": datetime(2026, 1, 1, tzinfo=NoOffset())}, {"at": "tomorrow"},
        {"delay": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"timeout": -1}, {"timeout": 1e300}, {"timeout": "400d"}, {"result_ttl": float("nan")}, {"result_ttl": [1]},
        {"retry": 0}, {"retry": "3"}, {"retry": True}, {"retry": 2**40}, {"on_full": "drop"}, {"queue": "a b"},
        {"wait_timeout": -1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(options: dict[str, Any]) -> None:
    """An option that no worker could follow is refused, and named."""
    with pytest.raises(InvalidArguments, match=next(iter(options))):
        submit_options(**options)


@given(
    st.none() | st.floats(0, 365 * 86_400), st.none() | st.floats(0, 365 * 86_400),
    st.none() | st.builds(
        Retry, st.integers(1, 2**32 - 1), st.floats(0, 1e7), st.floats(1, 1e9), st.floats(0, 1e7), st.floats(0, 1)
    ),
)  # fmt: skip
def test_what_may_be_said_can_be_read(timeout: float | None, result_ttl: float | None, retry: Retry | None) -> None:
    """Whatever a submission may say, a worker reads."""
    options = submit_options(timeout=timeout, result_ttl=result_ttl, retry=retry).envelope
    assert options == unpack_envelope(pack_envelope("add", options=options)).options


def test_a_job_has_a_size() -> None:
    """A job of max_payload passes as it is; one byte more is refused with both numbers."""
    assert b"x" * 1024 == check_size("add", b"x" * 1024, 1024)
    with pytest.raises(PayloadTooLarge, match=r"add\(\): the job takes 1,025 bytes, max_payload is 1,024"):
        check_size("add", b"x" * 1025, 1024)
