"""What happens to a job next: the decision after each run, and the records that carry it out.

`decide` reads one Outcome and returns one Disposition; it is the only place that knows when a job is retried, given up
or done. No clock, no dice, no server: the caller hands those in, and a broker carries the Disposition out.
"""

from enum import IntEnum
from typing import Any, Final

import msgspec

from headrace.config import limits

from . import codec
from .codec import NIL, Envelope, EnvelopeOptions, ResultRecord
from .failures import cut, message_of
from .outcome import Failure, Outcome, Status, Unpackable
from .retry import Retry, matches, wait_s
from .states import State

_encode = msgspec.msgpack.Encoder().encode

#: Waits between starts of a job that keeps killing its process: short, since no attempt is used up, but no hot loop.
CRASH_RETRY: Final = Retry(delay=0.1, factor=2.0, max_delay=5.0, jitter=0.0)


class Kind(IntEnum):
    """What a broker does with the job."""

    DONE = 0  #: acknowledge, store the record
    RETRY = 1  #: acknowledge, keep `body` for `delay_ms`
    DEAD = 2  #: acknowledge, store the record and the dead letter
    RETURN = 3  #: hand back, for any worker at once


_DONE: Final = Kind.DONE  # asked of its class each time, a member of an Enum costs 0.1 us on 3.11


class Disposition(msgspec.Struct, frozen=True, gc=False):
    """The next step of one leased job.

    Attributes:
        lease: The lease that it settles.
        kind: What to do.
        record: The packed result record; empty when none is kept.
        ttl_ms: How long the record is kept.
        body: The envelope of the next try (RETRY).
        delay_ms: How long the next try waits (RETRY).
        letter: The packed dead letter (DEAD).
        unique: The job's unique key; empty for none. It is freed when the job ends.
        caller_id: Its caller's own id for it; empty for none. It is kept as long as the record.
        name: The handler's name, for the event.
        attempt: The try that ended, from 1; 0 where there was none.
        ended_as: The state that the job ended in (DONE).
        reason: Why it is dead (DEAD).
        was_started: Whether its handler had begun (RETURN): then it counts as an interruption.
    """

    lease: Any
    kind: Kind
    record: bytes = b""
    ttl_ms: int = 0
    body: bytes = b""
    delay_ms: int = 0
    letter: bytes = b""
    unique: str = ""
    caller_id: str = ""
    name: str = ""
    attempt: int = 1
    ended_as: State = State.SUCCEEDED
    reason: str = ""
    was_started: bool = False


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A job given up on, with all that is needed to understand it and to run it again.

    Attributes:
        version: VERSION of headrace.jobs.codec.
        id: The job's id.
        queue: The queue that it came from.
        name: The handler's name; empty when the entry could not be read.
        reason: "failed", "timed_out", "crashed", "refused" (the handler raised FailJob), "invalid_arguments",
            "unknown_handler", "too_large" or "malformed".
        error: Type and message of the exception, or what is wrong with the entry.
        traceback: The traceback as text; may be empty.
        attempts: Tries that were made.
        deliveries: Starts in all.
        died_at_ms: Milliseconds since the epoch.
        body: The packed envelope, or the raw bytes of a malformed entry.
        edited_at_ms: When its arguments were changed last; unset, and not written, for never.
        original: The envelope that died, once `body` was edited; unset before.
    """

    id: str
    queue: str
    name: str
    reason: str
    error: str
    traceback: str
    attempts: int
    deliveries: int
    died_at_ms: int
    body: bytes
    version: int = codec.VERSION
    edited_at_ms: int | msgspec.UnsetType = msgspec.UNSET
    original: bytes | msgspec.UnsetType = msgspec.UNSET


_letter = msgspec.msgpack.Decoder(DeadLetter).decode


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What policy needs to know of the settings.

    Attributes:
        result_ttl_s: Seconds for which records are kept unless the handler or the job says otherwise.
        max_result_bytes: The most that a packed record may take.
    """

    result_ttl_s: float
    max_result_bytes: int


class Ended(msgspec.Struct, frozen=True, gc=False):
    """One run that ended, with what policy reads beside the outcome.

    Attributes:
        lease: The lease that it ran under.
        job_id: The job's id.
        queue: Its queue.
        envelope: The job.
        outcome: How the run ended.
        retry: The handler's Retry.
        result_ttl_s: The handler's own; None for the setting.
        starts: Earlier starts of its entry that a crash may have cut short.
        interruptions: Earlier starts of its entry that were stopped by the end of a drain.
        max_deliveries: Starts without an outcome after which this handler's jobs are given up.
        on_crash_dead: Whether a crash ends them at once.
    """

    lease: Any
    job_id: str
    queue: str
    envelope: Envelope
    outcome: Outcome
    retry: Retry
    result_ttl_s: float | None
    starts: int
    max_deliveries: int
    on_crash_dead: bool = False
    interruptions: int = 0


def decide(ended: Ended, rules: Rules, *, now_ms: int, dice: float) -> Disposition:
    """Return what happens to the job next.

    Args:
        ended: The run.
        rules: The settings' part.
        now_ms: Wall-clock milliseconds since the epoch.
        dice: A random number from 0 to 1, for the jitter of a retry.
    """
    return keyed(_decide(ended, rules, now_ms=now_ms, dice=dice), ended.envelope.options)


def keyed(disposition: Disposition, options: EnvelopeOptions | None) -> Disposition:
    """Return the disposition with the job's keys, which the broker frees or keeps."""
    if options is None or (options.unique is None and options.id is None):
        return disposition
    return msgspec.structs.replace(disposition, unique=options.unique or "", caller_id=options.id or "")


def _decide(ended: Ended, rules: Rules, *, now_ms: int, dice: float) -> Disposition:
    outcome, options = ended.outcome, ended.envelope.options or codec.NO_OPTIONS
    status = outcome.status
    if status is Status.SUCCEEDED:
        return succeed(ended, rules, now_ms=now_ms)
    if status is Status.INTERRUPTED:
        return _interrupt(ended, rules, now_ms)
    if status is Status.CANCELLED:
        return _end(ended, rules, State.CANCELLED, now_ms)
    if status is Status.EXPIRED:
        return _end(ended, rules, State.EXPIRED, now_ms)
    if (
        status is Status.UNREADABLE
    ):  # such an entry has no envelope and goes to `bury_unread`; never lose it all the same
        return _bury(ended, rules, "malformed", now_ms)
    if status is Status.CRASHED:
        starts = ended.starts + options.deliveries + 1  # what counts as poison: not the tries that failed
        if starts >= ended.max_deliveries or ended.on_crash_dead:
            return _bury(ended, rules, "crashed", now_ms)
        again = msgspec.structs.replace(options, deliveries=starts)
        return _again(ended, again, wait_s(CRASH_RETRY, starts, dice))
    failure = outcome.failure or Failure("Unknown")
    if failure.final:
        return _bury(ended, rules, "invalid_arguments" if failure.type == "InvalidArguments" else "refused", now_ms)
    policy = policy_of(ended.retry, options)
    if options.attempt < policy.attempts and (
        failure.retry_delay_s is not None or matches(policy, failure, outcome.exception)
    ):
        asked_s = failure.retry_delay_s
        if asked_s is not None and asked_s >= 0:
            delay_s = min(asked_s, limits.PERIOD_MAX_S)  # a child process may say anything, infinity too
        else:
            delay_s = wait_s(policy, options.attempt, dice)
        # An outcome of its own: what was started without one before counts towards no limit any more.
        again = msgspec.structs.replace(options, attempt=options.attempt + 1, deliveries=0)
        return _again(ended, again, delay_s)
    return _bury(ended, rules, "timed_out" if status is Status.TIMED_OUT else "failed", now_ms)


def succeed_plainly(
    lease: Any, name: str, value: Any, ttl_ms: int, rules: Rules, run_ms: int, starts: int, now_ms: int
) -> Disposition | None:
    """Return what `decide` would for a first try that succeeded and whose submission said nothing special.

    The common case of a busy worker, without the records in between; None when the value needs a closer look.
    """
    if not ttl_ms:
        return Disposition(lease, _DONE, name=name)
    try:
        record = _encode((codec.VERSION, "succeeded", value, None, name, 1, starts + 1, now_ms - run_ms, now_ms, None))
    except BaseException:  # noqa: BLE001 - what an object's own hooks raise; `succeed` packs again and tells what it was
        return None
    if len(record) > rules.max_result_bytes:
        return None
    return Disposition(lease, _DONE, record, ttl_ms, name=name)


def succeed(ended: Ended, rules: Rules, *, now_ms: int) -> Disposition:
    """Return the disposition of a job that succeeded; a value that cannot be kept is noted, the job stays done."""
    ttl_ms = _ttl_ms(ended, rules)
    if not ttl_ms:
        return Disposition(ended.lease, Kind.DONE)
    value = ended.outcome.value
    if type(value) is Unpackable:
        note = cut(value.reason, limits.ERROR_MESSAGE_MAX_CHARS)
        return Disposition(ended.lease, Kind.DONE, _pack(ended, State.SUCCEEDED, now_ms, NIL, note), ttl_ms)
    try:
        record = _pack(ended, State.SUCCEEDED, now_ms, value, None)
        if len(record) <= rules.max_result_bytes:
            return Disposition(ended.lease, Kind.DONE, record, ttl_ms)
        note = (
            f"the result takes {len(record):,} bytes, max_result is {rules.max_result_bytes:,}; store it elsewhere and "
            f"return where, or raise max_result"
        )
    except BaseException as error:  # noqa: BLE001 - whatever an object's own hooks may raise while it is packed
        note = f"the result cannot be packed: {type(error).__name__}: {message_of(error)}; return plain data"
    return Disposition(ended.lease, Kind.DONE, _pack(ended, State.SUCCEEDED, now_ms, NIL, note), ttl_ms)


def policy_of(handlers: Retry, options: EnvelopeOptions) -> Retry:
    """Return the handler's Retry with what the submission said in its stead."""
    if options.attempts is None and options.delay_s is None:
        return handlers
    said = {
        "attempts": options.attempts,
        "delay": options.delay_s,
        "factor": options.factor,
        "max_delay": options.max_delay_s,
        "jitter": options.jitter,
    }
    return msgspec.structs.replace(handlers, **{name: value for name, value in said.items() if value is not None})


def pack_letter(letter: DeadLetter) -> bytes:
    """Return a dead letter's bytes."""
    return _encode(letter)


def unpack_letter(data: bytes) -> DeadLetter:
    """Read a dead letter; raises Malformed."""
    try:
        letter = _letter(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise codec.Malformed(f"a dead letter: {error}") from None
    if letter.version != codec.VERSION:
        raise codec.Malformed(f"a dead letter of version {letter.version}, this worker reads {codec.VERSION}")
    return letter


def _again(ended: Ended, options: EnvelopeOptions, delay_s: float) -> Disposition:
    starts = min(_starts_of(ended), codec.COUNT_MAX)
    interruptions = min(options.interruptions + ended.interruptions, codec.COUNT_MAX)
    options = msgspec.structs.replace(options, starts=starts, interruptions=interruptions, unknown_since_ms=None)
    body = codec.repack(ended.envelope, options)
    return Disposition(ended.lease, Kind.RETRY, body=body, delay_ms=round(delay_s * 1000))


def _interrupt(ended: Ended, rules: Rules, now_ms: int) -> Disposition:
    """Hand back what was stopped or never started; what must never start twice is given up once it was started."""
    if not ended.outcome.started_at_s:
        return Disposition(ended.lease, Kind.RETURN)
    if not ended.on_crash_dead:
        return Disposition(ended.lease, Kind.RETURN, was_started=True)
    failure = Failure(
        "JobCrashed",
        'stopped in its midst, by the end of a drain or a lost lease; its handler says on_crash="dead", so it is not '
        "started again: see what it has done, then retry or drop it",
    )
    outcome = msgspec.structs.replace(ended.outcome, failure=failure)
    return _bury(msgspec.structs.replace(ended, outcome=outcome), rules, "crashed", now_ms)


def _end(ended: Ended, rules: Rules, state: State, now_ms: int) -> Disposition:
    ttl_ms = _ttl_ms(ended, rules)
    record = _pack(ended, state, now_ms, NIL, None) if ttl_ms else b""
    return Disposition(ended.lease, Kind.DONE, record, ttl_ms)


def _bury(ended: Ended, rules: Rules, reason: str, now_ms: int) -> Disposition:
    options = ended.envelope.options or codec.NO_OPTIONS
    failure = ended.outcome.failure or Failure(reason)
    letter = DeadLetter(
        id=ended.job_id,
        queue=ended.queue,
        name=ended.envelope.name,
        reason=reason,
        error=str(failure),
        traceback=failure.traceback,
        attempts=options.attempt,
        deliveries=_starts_of(ended),
        died_at_ms=now_ms,
        body=bytes(ended.lease.body),
    )
    ttl_ms = _ttl_ms(ended, rules)
    record = _pack(ended, State.DEAD, now_ms, NIL, reason) if ttl_ms else b""
    return Disposition(ended.lease, Kind.DEAD, record, ttl_ms, letter=pack_letter(letter), reason=reason)


def _starts_of(ended: Ended) -> int:
    """Return how often the job was started in all, the run that ended included."""
    return ended.starts + ended.interruptions + (ended.envelope.options or codec.NO_OPTIONS).starts_before + 1


def _ttl_ms(ended: Ended, rules: Rules) -> int:
    options = ended.envelope.options
    if options is not None and options.result_ttl_s is not None:
        return round(options.result_ttl_s * 1000)
    ttl_s = ended.result_ttl_s
    return round((rules.result_ttl_s if ttl_s is None else ttl_s) * 1000)


def _pack(ended: Ended, state: State, now_ms: int, value: Any, note: str | None) -> bytes:
    outcome, options = ended.outcome, ended.envelope.options or codec.NO_OPTIONS
    started_at_ms = now_ms - round(outcome.run_s * 1000) if outcome.started_at_s else 0
    record = ResultRecord(
        codec.VERSION,
        state.value,
        value,
        outcome.failure,
        ended.envelope.name,
        options.attempt,
        _starts_of(ended),
        started_at_ms,
        now_ms,
        note,
        options.interruptions + ended.interruptions + (outcome.status is Status.INTERRUPTED),
    )
    return codec.pack_record(record)
