"""What the broker sink decides of jobs that succeeded: its short way and policy's long one come to the same."""

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.port import Lease, Source
from headrace.engine.sinks import broker as module
from headrace.engine.sinks.broker import BrokerSink
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions
from headrace.jobs.disposition import Rules
from headrace.jobs.outcome import Outcome, Status
from headrace.jobs.retry import Retry

NOW_NS = 1_795_406_593_154_000_000
EVERY = [
    None,
    EnvelopeOptions(timeout_s=5.0),
    EnvelopeOptions(attempts=7, delay_s=1.0, factor=2.0, max_delay_s=9.0, jitter=0.1),
    EnvelopeOptions(expires_at_ms=NOW_NS // 1_000_000),
    EnvelopeOptions(result_ttl_s=7.0),
    EnvelopeOptions(result_ttl_s=0.0),
    EnvelopeOptions(attempt=2),
    EnvelopeOptions(deliveries=1, starts=1),
    EnvelopeOptions(interruptions=1),
    EnvelopeOptions(unknown_since_ms=5),
    EnvelopeOptions(unique="key", timeout_s=5.0),
    EnvelopeOptions(id="mine"),
]


def outcome_of(options: EnvelopeOptions | None, number: int) -> Outcome:
    """Return the outcome of a job that succeeded."""
    envelope = codec.unpack_envelope(codec.pack_envelope("add", options=options))
    work: Any = SimpleNamespace(
        lease=Lease(Source("q", "w:1"), b"1-%d" % number, b"x"), envelope=envelope, label="add", ttl_ms=300_000,
        retry=Retry(), result_ttl_s=None, max_deliveries=5, on_crash_dead=False,
    )  # fmt: skip
    return Outcome(work, Status.SUCCEEDED, 7, None, None, 1.0, 0.25)


def test_both_ways_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a submission said, and whoever settles beside it, a success is recorded and kept as policy says."""
    monkeypatch.setattr(module.time, "time_ns", lambda: NOW_NS)
    sink = BrokerSink(MemoryBroker(), Rules(result_ttl_s=300.0, max_result_bytes=1000), lambda *_: None)
    outcomes = [outcome_of(options, number) for number, options in enumerate([*EVERY, *reversed(EVERY)])]
    assert [sink._decide_one(outcome, NOW_NS // 1_000_000) for outcome in outcomes] == sink._decide(outcomes)


def test_what_is_said_of_the_run_alone_takes_the_short_way() -> None:
    """A timeout, a retry, an expiry and a unique key say nothing of how it ended; everything else does."""
    assert [1, 2, 3, 9, 10] == [place for place, options in enumerate(EVERY) if options and options.are_of_the_run]
