"""When and how often a failed job runs again: the Retry record, and the arithmetic of its delays.

Synchronous and without a clock or dice of its own: the caller hands in a random number. What is decided here is carried
out by the completer; nobody else decides.
"""

from typing import Final

import msgspec

from headrace.config import limits

from .codec import COUNT_MAX
from .failures import qualified_name
from .outcome import Failure

#: The bases of a timeout where no exception object is at hand; TimeoutError is an OSError in Python.
_YEAR_S: Final = limits.PERIOD_MAX_S
#: Field, least and most. Longer waits than a year, and factors of more than a billion, are mistakes.
_BOUNDS: Final = (("delay", 0, _YEAR_S), ("max_delay", 0, _YEAR_S), ("factor", 1, 1e9), ("jitter", 0, 1))
TIMEOUT_ANCESTORS: Final = ("builtins.TimeoutError", "builtins.OSError", "builtins.Exception")


class Retry(msgspec.Struct, frozen=True):
    """How often a job is tried, and how long it waits in between.

    The n-th wait is `delay * factor ** (n - 1)` seconds, at most `max_delay`, less a random share of up to `jitter`.

    Attributes:
        attempts: Tries in all, the first included; at least 1.
        delay: Seconds before the second try.
        factor: What each further wait is multiplied by; at least 1.
        max_delay: The longest wait in seconds.
        jitter: Share of a wait that chance may take off, 0 to 1, so that a herd spreads out.
        on: Exception classes that are retried; empty for all. Timeouts match as TimeoutError.
        but_not: Exception classes that are not, whatever `on` says.
    """

    attempts: int = 3
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.5
    on: tuple[type[BaseException], ...] = ()
    but_not: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        count = self.attempts
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= COUNT_MAX:
            raise ValueError(f"Retry(attempts={count!r}): give the number of tries in all, from 1 to {COUNT_MAX:,}")
        for field, least, most in _BOUNDS:
            value = getattr(self, field)
            # Asked this way round, NaN is refused too.
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ValueError(f"Retry({field}={value!r}): give a number from {least:g} to {most:g}")
        for field in ("on", "but_not"):
            kinds = getattr(self, field)
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
            ):
                raise ValueError(f"Retry({field}={kinds!r}): give a tuple of exception classes, such as (OSError,)")


DEFAULT: Final = Retry()
ONCE: Final = Retry(attempts=1)


def from_option(value: "Retry | int | None") -> Retry:
    """Return the Retry that an option means: itself, a number of tries in all, or None for one try.

    Raises:
        ValueError: neither of these.
    """
    if value is None:
        return ONCE
    if isinstance(value, Retry):
        return value
    return Retry(attempts=value)


def matches(policy: Retry, failure: Failure, exception: BaseException | None) -> bool:
    """Return whether the policy retries this failure, by its class where at hand, else by the names of its bases."""
    if _is_any(policy.but_not, failure, exception):
        return False
    return not policy.on or _is_any(policy.on, failure, exception)


def wait_s(policy: Retry, attempt: int, dice: float) -> float:
    """Return the seconds between try number `attempt` and the next; `dice` is a random number from 0 to 1."""
    # The exponent is cut so that a job with thousands of tries does not overflow a float: 1e9 ** 32 is 1e288.
    full_s = min(policy.max_delay, policy.delay * float(policy.factor) ** min(attempt - 1, 32))
    return full_s * (1 - policy.jitter * dice)


def _is_any(kinds: tuple[type[BaseException], ...], failure: Failure, exception: BaseException | None) -> bool:
    if exception is not None:
        return issubclass(type(exception), kinds)  # as an `except` clause does
    return any(kind is BaseException or qualified_name(kind) in failure.ancestors for kind in kinds)
