"""What happens to a job after each run: every status, with attempts left and without."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.limits import ERROR_MESSAGE_MAX_CHARS, PERIOD_MAX_S
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions, pack_envelope, unpack_envelope, unpack_record
from headrace.jobs.disposition import (
    Disposition,
    Ended,
    Kind,
    Rules,
    decide,
    policy_of,
    succeed_plainly,
    unpack_letter,
)
from headrace.jobs.errors import FailJob, JobCrashed, JobFailed, JobTimedOut, ResultUnavailable, RetryJob
from headrace.jobs.failures import failure_of
from headrace.jobs.outcome import Failure, Outcome, Status, Unpackable
from headrace.jobs.results import unwrap
from headrace.jobs.retry import TIMEOUT_ANCESTORS, Retry
from headrace.jobs.states import State
from headrace.jobs.unread import bury_unread

NOW_MS = 1_795_406_593_154
RULES = Rules(result_ttl_s=300, max_result_bytes=10_000)
THREE = Retry(attempts=3, delay=10, factor=2, jitter=0)


class Lease(msgspec.Struct, frozen=True):
    body: bytes
    starts: int = 0
    interruptions: int = 0


def ended(
    outcome: Outcome,
    options: EnvelopeOptions | None = None,
    *,
    retry: Retry = THREE,
    result_ttl_s: float | None = None,
    starts: int = 0,
) -> Ended:
    body = pack_envelope("add", b"\x91\x01", b"\x80", options)
    return Ended(
        Lease(body, starts), "default:1-0", "default", unpack_envelope(body), outcome, retry, result_ttl_s, starts, 5
    )


def decided(
    outcome: Outcome, options: EnvelopeOptions | None = None, *, rules: Rules = RULES, dice: float = 0.0, **more: Any
) -> Disposition:
    return decide(ended(outcome, options, **more), rules, now_ms=NOW_MS, dice=dice)


def run(
    status: Status, value: Any = None, failure: Failure | None = None, exception: Exception | None = None
) -> Outcome:
    return Outcome(None, status, value, failure, exception, 5.0, 0.25)


def raised(error: Exception, status: Status = Status.FAILED) -> Outcome:
    return run(status, None, failure_of(error), error)


TIMED_OUT = run(Status.TIMED_OUT, None, Failure("JobTimedOut", "still running", "", TIMEOUT_ANCESTORS))
CRASHED = raised(JobCrashed("died"), Status.CRASHED)
LAST = EnvelopeOptions(attempt=3)


def options_of(disposition: Disposition) -> EnvelopeOptions:
    options = unpack_envelope(disposition.body).options
    assert options is not None
    return options


# Success ---------------------------------------------------------------------------------------------


def test_a_success_is_recorded() -> None:
    """A job that succeeded is done, and its record has value, tries, starts and times."""
    disposition = decided(run(Status.SUCCEEDED, {"a": [1]}), EnvelopeOptions(attempt=2, deliveries=1), starts=2)
    record = unpack_record(disposition.record)
    assert (Kind.DONE, 300_000, b"", b"") == (
        disposition.kind, disposition.ttl_ms, disposition.body, disposition.letter,
    )  # fmt: skip
    assert ("succeeded", "add", 2, 4) == (record.status, record.name, record.attempt, record.deliveries)
    assert (NOW_MS - 250, NOW_MS, None, None) == (
        record.started_at_ms, record.ended_at_ms, record.failure, record.note,
    )  # fmt: skip
    assert {"a": [1]} == unwrap("default:1-0", record)


@given(st.none() | st.integers(0, 9) | st.text("ab") | st.lists(st.integers(0, 9)), st.integers(0, 4), st.floats(0, 99))
def test_the_plain_way_says_what_the_whole_way_says(value: Any, starts: int, run_s: float) -> None:
    """The short way of a first success without options gives the record that `decide` gives."""
    outcome = Outcome(None, Status.SUCCEEDED, value, None, None, 5.0, run_s)
    whole = decided(outcome, starts=starts)
    plain = succeed_plainly(whole.lease, "add", value, 300_000, RULES, int(run_s * 1000), starts, NOW_MS)
    assert plain is not None
    first, second = unpack_record(plain.record), unpack_record(whole.record)
    assert abs(first.started_at_ms - second.started_at_ms) <= 1  # one rounds, the other cuts
    even = msgspec.structs.replace(first, started_at_ms=second.started_at_ms)
    assert (even, plain.ttl_ms, plain.kind) == (second, whole.ttl_ms, whole.kind)


def test_no_record_where_none_is_kept() -> None:
    """A time to live of 0, by setting, handler or submission, keeps no record; the submission's word is the last."""
    done = run(Status.SUCCEEDED, 1)
    none = msgspec.structs.replace(RULES, result_ttl_s=0)
    assert (b"", 0) == (decided(done, rules=none).record, decided(done, rules=none).ttl_ms)
    assert b"" == decided(done, result_ttl_s=0).record
    assert b"" == decided(done, EnvelopeOptions(result_ttl_s=0.0), result_ttl_s=60).record
    assert 1500 == decided(done, EnvelopeOptions(result_ttl_s=1.5), result_ttl_s=0).ttl_ms
    assert 60_000 == decided(done, rules=none, result_ttl_s=60).ttl_ms
    assert Disposition(None, Kind.DONE, name="add") == succeed_plainly(None, "add", object(), 0, RULES, 100, 0, NOW_MS)


class Odd:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.error


class BrokenError(Exception):
    def __str__(self) -> str:
        raise ValueError("from __str__")


class Closed:
    """Cannot be asked anything, its class included, as a proxy of what is not there."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"no {name}")


UNKEPT = {
    "an object": (object(), "cannot be packed: TypeError"),
    "a value that raises": (Odd(BrokenError()), "cannot be packed"),
    "a value that ends the program": (Odd(KeyboardInterrupt()), "cannot be packed"),
    "a proxy of nothing": (Closed(), "cannot be packed"),
    "a lone surrogate": ("\ud800", "cannot be packed: UnicodeEncodeError"),
    "too large": ("x" * 10_001, "takes 10,0"),
    "an int of 65 bits": (2**64, "cannot be packed: OverflowError"),
    "one that a process could not send": (Unpackable("what f() returned cannot be sent back"), "cannot be sent back"),
    "one with an endless reason": (Unpackable("why " * 100_000), "why why"),
}


@pytest.mark.parametrize("kind", UNKEPT)
def test_a_success_that_cannot_be_kept_stays_a_success(kind: str) -> None:
    """The job is done, its record says why there is no value, and asking for it raises ResultUnavailable."""
    value, why = UNKEPT[kind]
    disposition = decided(run(Status.SUCCEEDED, value))
    record = unpack_record(disposition.record)
    assert (Kind.DONE, State.SUCCEEDED, None) == (disposition.kind, record.status, record.failure)
    assert record.note is not None
    assert why in record.note
    assert len(record.note) < ERROR_MESSAGE_MAX_CHARS + 200
    with pytest.raises(ResultUnavailable, match="succeeded, but"):
        unwrap("default:1-0", record)
    assert succeed_plainly(None, "add", value, 300_000, RULES, 100, 0, NOW_MS) is None


def test_packed_results_pass_through_unread() -> None:
    """A value that a process sent packed is stored as it is."""
    record = unpack_record(decided(run(Status.SUCCEEDED, msgspec.Raw(b"\x92\x01\x02"))).record)
    assert [1, 2] == unwrap("default:1-0", record)


# Failure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempt", "delay_ms"), [(1, 10_000), (2, 20_000)])
@pytest.mark.parametrize("outcome", [raised(ValueError("no")), TIMED_OUT], ids=["failed", "timed out"])
def test_a_failure_with_attempts_left_is_tried_again(outcome: Outcome, attempt: int, delay_ms: int) -> None:
    """A failed or timed out try with tries left goes back with the next number, after the policy's wait."""
    disposition = decided(outcome, EnvelopeOptions(attempt=attempt, timeout_s=7.0))
    assert (Kind.RETRY, delay_ms, b"", b"") == (
        disposition.kind, disposition.delay_ms, disposition.record, disposition.letter,
    )  # fmt: skip
    assert EnvelopeOptions(attempt=attempt + 1, timeout_s=7.0, starts=1) == options_of(disposition)
    assert b"\x91\x01" == bytes(unpack_envelope(disposition.body).args)


@pytest.mark.parametrize(
    ("outcome", "reason", "kind"),
    [
        (raised(ValueError("no")), "failed", JobFailed),
        (TIMED_OUT, "timed_out", JobTimedOut),
        (raised(RetryJob(delay=5)), "failed", JobFailed),
        (run(Status.FAILED), "failed", JobFailed),
    ],
    ids=["failed", "timed out", "RetryJob", "without a failure"],
)
def test_the_last_failure_is_buried(outcome: Outcome, reason: str, kind: type[JobFailed]) -> None:
    """A failed last try becomes a dead letter with the job's bytes, and a record that raises the right error."""
    disposition = decided(outcome, LAST, starts=1)
    letter, record = unpack_letter(disposition.letter), unpack_record(disposition.record)
    assert (Kind.DEAD, reason, reason, State.DEAD) == (disposition.kind, letter.reason, record.note, record.status)
    assert (disposition.lease.body, 3, 2, NOW_MS) == (
        letter.body, letter.attempts, letter.deliveries, letter.died_at_ms,
    )  # fmt: skip
    with pytest.raises(kind) as error:
        unwrap("default:1-0", record)
    assert kind is type(error.value)


def test_the_handlers_retry_chooses_its_exceptions() -> None:
    """`on` and `but_not` decide by class, also where only the names of its bases are known."""
    chosen = Retry(attempts=3, on=(OSError,), but_not=(PermissionError,))
    for error, kind in [
        (ConnectionError(), Kind.RETRY), (PermissionError(), Kind.DEAD), (ValueError(), Kind.DEAD),
    ]:  # fmt: skip
        assert kind is decided(raised(error), retry=chosen).kind
        assert kind is decided(run(Status.FAILED, None, failure_of(error)), retry=chosen).kind
    assert Kind.RETRY is decided(TIMED_OUT, retry=Retry(on=(TimeoutError,))).kind
    assert Kind.DEAD is decided(TIMED_OUT, retry=Retry(but_not=(TimeoutError,))).kind


def test_a_handler_may_ask_for_another_try() -> None:
    """RetryJob waits as long as it says, whatever `on` says, and as the policy says when it says nothing."""
    for delay, wait_ms in [(0, 0), (2.5, 2500), ("1m", 60_000), (None, 10_000)]:
        disposition = decided(raised(RetryJob(delay)), retry=msgspec.structs.replace(THREE, on=(OSError,)))
        assert (Kind.RETRY, wait_ms) == (disposition.kind, disposition.delay_ms)


@pytest.mark.parametrize("asked_s", [float("inf"), 1e300, float("nan"), -5.0])
def test_an_odd_wait_from_a_process_is_bounded(asked_s: float) -> None:
    """A wait that is no time, as a child process may send, becomes a year at the most."""
    failure = Failure("RetryJob", retry_delay_s=asked_s)
    disposition = decided(run(Status.FAILED, None, failure))
    assert 0 <= disposition.delay_ms <= PERIOD_MAX_S * 1000


def test_a_wait_that_is_no_time_fails_the_handler() -> None:
    """RetryJob refuses infinity, NaN, negative and endless waits where it is made."""
    for delay in (float("inf"), float("nan"), -1, "soon", 1e300):
        with pytest.raises(ValueError, match=r"delay|duration"):
            RetryJob(delay)


def test_a_handler_may_give_up() -> None:
    """FailJob and arguments that do not fit end the job whatever attempts are left."""
    refused = decided(raised(FailJob("no such user")))
    assert (Kind.DEAD, "refused") == (refused.kind, unpack_letter(refused.letter).reason)
    assert "FailJob: no such user" == unpack_letter(refused.letter).error
    misfit = decided(run(Status.FAILED, None, Failure("InvalidArguments", "'a'", final=True)))
    assert (Kind.DEAD, "invalid_arguments") == (misfit.kind, unpack_letter(misfit.letter).reason)


def test_the_dead_are_buried_without_record_too() -> None:
    """Where no records are kept, the dead letter is written all the same."""
    disposition = decided(raised(ValueError()), LAST, result_ttl_s=0)
    assert (Kind.DEAD, b"", 0) == (disposition.kind, disposition.record, disposition.ttl_ms)
    assert "failed" == unpack_letter(disposition.letter).reason


def test_a_submission_may_say_how_often() -> None:
    """Attempts and waits of the submission stand for the handler's, whose choice of exceptions stays."""
    said = EnvelopeOptions(attempts=5, delay_s=1.0, factor=3.0, max_delay_s=50.0, jitter=0.0)
    handlers = Retry(attempts=2, on=(OSError,))
    assert Retry(5, 1.0, 3.0, 50.0, 0.0, (OSError,)) == policy_of(handlers, said)
    assert msgspec.structs.replace(handlers, attempts=1) == policy_of(handlers, EnvelopeOptions(attempts=1))
    assert handlers is policy_of(handlers, EnvelopeOptions(timeout_s=3.0))
    assert Kind.DEAD is decided(raised(ValueError()), EnvelopeOptions(attempts=1)).kind


@given(
    st.builds(
        EnvelopeOptions,
        attempts=st.none() | st.integers(1, 2**32 - 1),
        delay_s=st.none() | st.floats(0, PERIOD_MAX_S),
        factor=st.none() | st.floats(1, 1e9),
        max_delay_s=st.none() | st.floats(0, PERIOD_MAX_S),
        jitter=st.none() | st.floats(0, 1),
        result_ttl_s=st.none() | st.floats(0, PERIOD_MAX_S),
        attempt=st.integers(1, 2**32 - 2),
        deliveries=st.integers(0, 2**31),
    ),
    st.sampled_from(Status),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_whatever_an_envelope_says_a_decision_is_made(
    options: EnvelopeOptions, status: Status, dice: float, starts: int
) -> None:
    """No options that can be read, with any status, keep policy from deciding, and what it decides can be read."""
    disposition = decided(run(status, 1, failure_of(ValueError("no"))), options, dice=dice, starts=starts)
    assert 0 <= disposition.ttl_ms <= PERIOD_MAX_S * 1000
    assert 0 <= disposition.delay_ms <= PERIOD_MAX_S * 1000
    if disposition.kind is Kind.RETRY:
        options_of(disposition)
    if disposition.kind is Kind.DEAD:
        unpack_letter(disposition.letter)
    if disposition.record:
        unpack_record(disposition.record)


# Crashes, shutdown, cancelling, expiry ----------------------------------------------------------------


def test_crashes_are_counted_apart_from_attempts() -> None:
    """A crashed start goes back without using an attempt, a little later each time, until max_deliveries."""
    waits_ms, options = [], EnvelopeOptions(attempt=2)
    for starts in range(1, 5):
        disposition = decided(CRASHED, options)
        assert Kind.RETRY is disposition.kind
        options = options_of(disposition)
        waits_ms.append(disposition.delay_ms)
        assert (2, starts) == (options.attempt, options.deliveries)
    assert [100, 200, 400, 800] == waits_ms
    letter = unpack_letter(decided(CRASHED, options).letter)
    assert ("crashed", 2, 5) == (letter.reason, letter.attempts, letter.deliveries)


def test_starts_that_a_dead_worker_left_count_too() -> None:
    """Earlier deliveries of the same entry and those of earlier entries are added up."""
    assert Kind.RETRY is decided(CRASHED, EnvelopeOptions(deliveries=2), starts=1).kind
    assert Kind.DEAD is decided(CRASHED, EnvelopeOptions(deliveries=2), starts=2).kind


def test_a_crash_raises_its_own_error() -> None:
    """Who waits for a job that crashed for good gets JobCrashed."""
    with pytest.raises(JobCrashed):
        unwrap("default:1-0", unpack_record(decided(CRASHED, starts=4).record))


def test_an_interrupted_job_goes_back_as_it_was() -> None:
    """A shutdown hands the job back, writes nothing about it, and says whether it had begun."""
    begun, fresh = run(Status.INTERRUPTED), Outcome(None, Status.INTERRUPTED)
    assert Disposition(ended(begun).lease, Kind.RETURN, was_started=True) == decided(begun)
    assert Disposition(ended(fresh).lease, Kind.RETURN) == decided(fresh)


def test_what_must_never_start_twice_is_given_up_when_stopped() -> None:
    """With on_crash="dead" a job that had begun is a dead letter; one that had not goes back."""
    begun, fresh = run(Status.INTERRUPTED), Outcome(None, Status.INTERRUPTED)
    careful = [msgspec.structs.replace(ended(each), on_crash_dead=True) for each in (begun, fresh)]
    dead, back = [decide(each, RULES, now_ms=NOW_MS, dice=0.0) for each in careful]
    letter = unpack_letter(dead.letter)
    assert (Kind.DEAD, "crashed", 1) == (dead.kind, letter.reason, letter.deliveries)
    assert "stopped in its midst" in letter.error
    assert Disposition(careful[1].lease, Kind.RETURN) == back


def test_interruptions_are_counted_over_every_try() -> None:
    """They add to the starts in all, never to what counts as poison, and stand in the record."""
    stopped_twice = msgspec.structs.replace(ended(raised(ValueError())), interruptions=2)
    options = options_of(decide(stopped_twice, RULES, now_ms=NOW_MS, dice=0.0))
    assert (2, 3, 0, 2) == (options.interruptions, options.starts, options.deliveries, options.attempt)
    last = unpack_record(decided(run(Status.SUCCEEDED, 1), options).record)
    assert (2, 4) == (last.interruptions, last.deliveries)
    assert 0 == unpack_record(decided(run(Status.SUCCEEDED, 1)).record).interruptions


@pytest.mark.parametrize(("status", "state"), [(Status.CANCELLED, "cancelled"), (Status.EXPIRED, "expired")])
def test_cancelled_and_expired_jobs_are_done(status: Status, state: str) -> None:
    """They end with a record, no dead letter, whatever attempts are left; a job that never started has no start."""
    disposition = decided(Outcome(None, status))
    record = unpack_record(disposition.record)
    assert (Kind.DONE, state, 0, b"") == (disposition.kind, record.status, record.started_at_ms, disposition.letter)
    assert b"" == decided(Outcome(None, status), result_ttl_s=0).record
    with pytest.raises(JobFailed, match=state):
        unwrap("default:1-0", record)


def test_starts_are_counted_over_every_try() -> None:
    """A failed try and a crash each add to the starts in all; only the crash adds to what counts as poison."""
    options = options_of(decided(raised(ValueError())))
    assert (1, 0, 2) == (options.starts, options.deliveries, options.attempt)
    options = options_of(decided(CRASHED, options, starts=1))
    assert (3, 2, 2) == (options.starts, options.deliveries, options.attempt)
    letter = unpack_letter(decided(raised(ValueError()), msgspec.structs.replace(options, attempt=3)).letter)
    record = unpack_record(decided(run(Status.SUCCEEDED), options).record)
    assert (4, 4) == (letter.deliveries, record.deliveries)


def test_a_job_that_was_run_is_not_unknown_any_more() -> None:
    """A try that failed forgets that the handler was unknown before; the starts never pass their bound."""
    said = EnvelopeOptions(unknown_since_ms=5, starts=codec.COUNT_MAX)
    options = options_of(decided(raised(ValueError()), said))
    assert (None, codec.COUNT_MAX) == (options.unknown_since_ms, options.starts)


# What no handler can be run for -----------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["malformed", "unknown_handler"])
def test_what_cannot_be_run_is_buried_with_its_bytes(reason: str) -> None:
    """An entry that no handler can be run for keeps its raw bytes, and its record lives as long as the settings say."""
    disposition = bury_unread(
        Lease(b"\xc1raw", 2), "default:1-0", "default", RULES, reason=reason, error="why " * 10_000, now_ms=NOW_MS
    )
    letter, record = unpack_letter(disposition.letter), unpack_record(disposition.record)
    assert (b"\xc1raw", reason, 3, NOW_MS) == (letter.body, letter.reason, letter.deliveries, letter.died_at_ms)
    assert (Kind.DEAD, 300_000, State.DEAD, reason) == (
        disposition.kind, disposition.ttl_ms, record.status, record.note,
    )  # fmt: skip
    assert len(letter.error) <= ERROR_MESSAGE_MAX_CHARS
    assert (0, 0) == (letter.attempts, record.attempt)
    with pytest.raises(JobFailed, match="why why"):
        unwrap("default:1-0", record)


def test_what_crashed_is_buried_with_its_tries_and_its_time() -> None:
    """A job that is not started once more was in a try that its options announce; its own record time holds."""
    options = EnvelopeOptions(attempt=2, starts=3, result_ttl_s=60.0)
    disposition = bury_unread(
        Lease(pack_envelope("add", b"\x90", b"\x80", options), 2, 1), "q:1-0", "q", RULES, reason="crashed", error="x",
        now_ms=NOW_MS, name="add", options=options, result_ttl_s=10.0,
    )  # fmt: skip
    letter, record = unpack_letter(disposition.letter), unpack_record(disposition.record)
    assert (2, 6, 60_000) == (letter.attempts, letter.deliveries, disposition.ttl_ms)
    assert (2, 6) == (record.attempt, record.deliveries)
    handlers = bury_unread(Lease(b"", 1), "q:1-0", "q", RULES, reason="crashed", error="x", now_ms=1, result_ttl_s=0)
    assert (b"", 0) == (handlers.record, handlers.ttl_ms)


def test_what_cannot_be_run_needs_no_record() -> None:
    """Where no records are kept, only the dead letter is written."""
    none = msgspec.structs.replace(RULES, result_ttl_s=0)
    disposition = bury_unread(Lease(b""), "q:1-0", "q", none, reason="malformed", error="empty", now_ms=NOW_MS)
    assert (b"", 0, "malformed") == (disposition.record, disposition.ttl_ms, unpack_letter(disposition.letter).reason)


def test_a_result_that_breaks_its_bytes_is_unavailable() -> None:
    """A stored value that cannot be read raises ResultUnavailable, not a decoder's error."""
    record = codec.ResultRecord(1, "succeeded", msgspec.Raw(b"\xa1\xff"), None, "add", 1, 1, 0, 0)
    with pytest.raises(ResultUnavailable, match="cannot be read"):
        unwrap("default:1-0", record)
