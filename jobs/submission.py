"""What a submission may say beyond a handler's arguments, checked; and the envelope that is made of it.

Pure: `now_ms` comes in as an argument. Sizes are checked here, before anything travels.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec

from headrace.config import limits, units

from .codec import NO_OPTIONS, EnvelopeOptions
from .errors import InvalidArguments, PayloadTooLarge
from .handler import Span
from .ids import check_caller_id, check_queue
from .retry import Retry, from_option
from .unique import OnDuplicate, Unique, unique_from

OnFull = Literal["reject", "wait"]
#: What an option is that was not given; None means something for `retry`.
UNSET: Final = msgspec.UNSET
#: A hundred years: no server lives longer, and milliseconds stay exact as the doubles that Redis sorts by.
DELAY_MAX_S: Final = 100 * limits.PERIOD_MAX_S
#: What is said of a submission with both.
DELAY_AND_AT: Final = "give delay= or at=, not both"


class SubmitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a submission, checked and in base units.

    Attributes:
        queue: Where it goes; None for the handler's own.
        delay_ms: Milliseconds until it is due; 0 for at once.
        due_at_ms: When it is due, milliseconds since the epoch; 0 for no such time.
        on_full: What to do when the queue is full; None for the setting.
        wait_timeout_s: How long to wait for room.
        envelope: The part that travels with the job; None for nothing.
        caller_id: The caller's own id for the job; empty for none.
        unique: Its unique key; None for the handler's own.
        on_duplicate: What to do when another job has the id or the key; None for what the key says, else "reject".
        replays: Whether the id stands for one submission, however often that is sent: whatever `on_duplicate` says of
            the key, the first job of the id is the answer.
        expires_ms: Milliseconds from the submission after which it is not started; None for no such time.
        expires_at_ms: The same in milliseconds since the epoch; None for no such time.
    """

    queue: str | None = None
    delay_ms: int = 0
    due_at_ms: int = 0
    on_full: OnFull | None = None
    wait_timeout_s: float = 60.0
    envelope: EnvelopeOptions | None = None
    caller_id: str = ""
    unique: Unique | None = None
    on_duplicate: OnDuplicate | None = None
    replays: bool = False
    expires_ms: int | None = None
    expires_at_ms: int | None = None

    @property
    def is_own(self) -> bool:
        """Whether each job needs an envelope of its own: it has a key, or a time that counts from its submission."""
        return bool(self.caller_id or self.unique or self.expires_ms is not None or self.expires_at_ms is not None)


DEFAULT: Final = SubmitOptions()


def submit_options(
    *,
    queue: str | None = None,
    delay: Span | None = None,
    at: datetime | None = None,
    timeout: Span | None = None,
    retry: "Retry | int | msgspec.UnsetType | None" = UNSET,
    result_ttl: Span | None = None,
    on_full: OnFull | None = None,
    wait_timeout: Span | None = None,
    id: str | None = None,  # noqa: A002 - the option's name
    unique: "Unique | str | bool | None" = None,
    on_duplicate: OnDuplicate | None = None,
    expires: "Span | datetime | None" = None,
) -> SubmitOptions:
    """Return checked options.

    Raises:
        InvalidArguments: one is out of its bounds; the message names it.
    """
    if delay is not None and at is not None:
        raise InvalidArguments(DELAY_AND_AT)
    due_at_ms = 0 if at is None else max(1, _moment_ms("at", at))
    delay_ms = round((_span("delay", delay, DELAY_MAX_S) or 0.0) * 1000)
    expires_ms, expires_at_ms = _expiry(expires)
    if (expires_ms is not None and expires_ms <= delay_ms) or (
        expires_at_ms is not None and expires_at_ms <= due_at_ms
    ):
        raise InvalidArguments(f"expires={expires!r}: the job would expire before it is due")
    if on_full not in (None, "reject", "wait"):
        raise InvalidArguments(f'on_full={on_full!r}: use "reject" or "wait"')
    if on_duplicate not in (None, "reject", "return"):
        raise InvalidArguments(f'on_duplicate={on_duplicate!r}: use "reject" or "return"')
    try:
        key = unique_from(unique)
    except ValueError as error:
        raise InvalidArguments(str(error)) from None
    envelope = msgspec.structs.replace(
        EnvelopeOptions(timeout_s=_span("timeout", timeout), result_ttl_s=_span("result_ttl", result_ttl)),
        **_retry_fields(retry),
    )
    return SubmitOptions(
        queue=None if queue is None else check_queue(queue),
        delay_ms=delay_ms,
        due_at_ms=due_at_ms,
        on_full=on_full,
        wait_timeout_s=60.0 if wait_timeout is None else _span("wait_timeout", wait_timeout) or 0.0,
        envelope=None if envelope == EnvelopeOptions() else envelope,
        caller_id="" if id is None else check_caller_id(id),
        unique=key,
        on_duplicate=on_duplicate,
        expires_ms=expires_ms,
        expires_at_ms=expires_at_ms,
    )


def own_envelope(options: SubmitOptions, unique_key: str, now_ms: int) -> EnvelopeOptions | None:
    """Return the part that travels with one job.

    Args:
        options: What its submission says.
        unique_key: Its unique key; empty for none.
        now_ms: Milliseconds since the epoch by this producer's clock, from which `expires` counts.
    """
    expires_at_ms = options.expires_at_ms if options.expires_ms is None else now_ms + options.expires_ms
    unique, caller_id, said = unique_key or None, options.caller_id or None, options.envelope
    if said is None:  # as nearly all that have a key
        if expires_at_ms is None and unique is None and caller_id is None:
            return None
        return EnvelopeOptions(expires_at_ms=expires_at_ms, unique=unique, id=caller_id)
    envelope = msgspec.structs.replace(said, expires_at_ms=expires_at_ms, unique=unique, id=caller_id)
    return None if envelope == NO_OPTIONS else envelope


def check_size(name: str, body: bytes, max_payload_bytes: int) -> bytes:
    """Return the envelope when it is not too large.

    Raises:
        PayloadTooLarge: it is; says how large.
    """
    if len(body) > max_payload_bytes:
        raise PayloadTooLarge(
            f"{name}(): the job takes {len(body):,} bytes, max_payload is {max_payload_bytes:,}; store the data "
            f"elsewhere and send where it is, or raise max_payload"
        )
    return body


def _moment_ms(name: str, value: object) -> int:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidArguments(f"{name}={value!r}: give a datetime with a time zone, such as datetime.now(UTC) + ...")
    return round(value.timestamp() * 1000)


def _expiry(value: "Span | datetime | None") -> tuple[int | None, int | None]:
    """Return milliseconds from the submission, or since the epoch."""
    if isinstance(value, datetime):
        return None, max(0, _moment_ms("expires", value))
    span_s = _span("expires", value)
    return None if span_s is None else round(span_s * 1000), None


def _span(name: str, value: Span | None, most_s: float = limits.PERIOD_MAX_S) -> float | None:
    if value is None:
        return None
    try:
        span_s = units.parse_duration(value)
    except (ValueError, TypeError) as error:
        raise InvalidArguments(f"{name}={value!r}: {error}") from None
    if span_s > most_s:
        raise InvalidArguments(f"{name}={value!r}: at most {units.format_duration(most_s)}; is it in seconds?")
    return span_s


def _retry_fields(value: "Retry | int | msgspec.UnsetType | None") -> dict[str, float | int]:
    if value is UNSET or isinstance(value, msgspec.UnsetType):
        return {}
    try:
        policy = from_option(value)
    except ValueError as error:
        raise InvalidArguments(f"retry={value!r}: {error}") from None
    if not isinstance(value, Retry):
        return {"attempts": policy.attempts}
    if policy.on or policy.but_not:
        raise InvalidArguments(
            "retry=Retry(on=... or but_not=...): classes cannot travel; give them to @job(retry=...)"
        )
    return {
        "attempts": policy.attempts,
        "delay_s": policy.delay,
        "factor": policy.factor,
        "max_delay_s": policy.max_delay,
        "jitter": policy.jitter,
    }
