"""What a submission may say beyond a handler's arguments, checked; and the envelope that is made of it.

Pure: `now_ms` comes in as an argument. Sizes are checked here, before anything travels.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec

from headrace.config import limits, units

from .codec import EnvelopeOptions
from .errors import InvalidArguments, PayloadTooLarge
from .handler import Span
from .ids import check_queue
from .retry import Retry, from_option

OnFull = Literal["reject", "wait"]
#: What an option is that was not given; None means something for `retry`.
UNSET: Final = msgspec.UNSET
#: A hundred years: no server lives longer, and milliseconds stay exact as the doubles that Redis sorts by.
DELAY_MAX_S: Final = 100 * limits.PERIOD_MAX_S


class SubmitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a submission, checked and in base units.

    Attributes:
        queue: Where it goes; None for the handler's own.
        delay_ms: Milliseconds until it is due; 0 for at once.
        due_at_ms: When it is due, milliseconds since the epoch; 0 for no such time.
        on_full: What to do when the queue is full; None for the setting.
        wait_timeout_s: How long to wait for room.
        envelope: The part that travels with the job; None for nothing.
    """

    queue: str | None = None
    delay_ms: int = 0
    due_at_ms: int = 0
    on_full: OnFull | None = None
    wait_timeout_s: float = 60.0
    envelope: EnvelopeOptions | None = None


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
) -> SubmitOptions:
    """Return checked options.

    Raises:
        InvalidArguments: one is out of its bounds; the message names it.
    """
    if delay is not None and at is not None:
        raise InvalidArguments("give delay= or at=, not both")
    if at is not None and (not isinstance(at, datetime) or at.utcoffset() is None):
        raise InvalidArguments(f"at={at!r}: give a datetime with a time zone, such as datetime.now(UTC) + ...")
    if on_full not in (None, "reject", "wait"):
        raise InvalidArguments(f'on_full={on_full!r}: use "reject" or "wait"')
    envelope = msgspec.structs.replace(
        EnvelopeOptions(timeout_s=_span("timeout", timeout), result_ttl_s=_span("result_ttl", result_ttl)),
        **_retry_fields(retry),
    )
    return SubmitOptions(
        queue=None if queue is None else check_queue(queue),
        delay_ms=round((_span("delay", delay, DELAY_MAX_S) or 0.0) * 1000),
        due_at_ms=0 if at is None else max(1, round(at.timestamp() * 1000)),
        on_full=on_full,
        wait_timeout_s=60.0 if wait_timeout is None else _span("wait_timeout", wait_timeout) or 0.0,
        envelope=None if envelope == EnvelopeOptions() else envelope,
    )


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
