"""Failures: exceptions turned into text that can cross processes and be kept with the job.

One pure function. It never raises, whatever the exception's own methods do, and what it gives is bounded by
ERROR_MESSAGE_MAX_CHARS and TRACEBACK_MAX_CHARS. The traceback begins at the handler: the frames above it are ours.
What handlers raise and return is asked for its type only, here and elsewhere: `isinstance` would also ask for its
`__class__`, which proxies answer with an exception when what they stand for is not there.
"""

import traceback
from types import TracebackType
from typing import Final

from headrace.config.limits import ERROR_MESSAGE_MAX_CHARS, TRACEBACK_MAX_CHARS

from .errors import FailJob, RetryJob
from .outcome import Failure

_AS_THE_POLICY_SAYS: Final = -1.0
#: What is said where an exception says nothing, so that whoever looks sees that this is all.
UNSAID: Final = "raised without a message"
ASKED_AGAIN: Final = "the handler asked to be run again"
#: What a job ends with whose `expires` passed.
EXPIRED: Final = Failure(
    "JobExpired",
    "its `expires` had passed before a worker could start it: submit it anew, and give it more time, or its queue more "
    "workers",
)
#: Innermost calls that are shown: past them the text would be cut anyway, and a deep recursion is slow to format.
_FRAMES_MAX: Final = 200
#: What stands before the cut, of all that is kept; the rest stands after it, where the last call and the message are.
_HEAD_SHARE: Final = 0.5


def failure_of(error: BaseException) -> Failure:
    """Return the exception as a record of text.

    An exception that carries a Failure already, in its attribute `failure`, gives that: it comes from another process.

    Args:
        error: What the handler raised; its traceback is read, and not kept.
    """
    kind = type(error)
    carried = _carried(error)
    if type(carried) is Failure:
        return carried
    retry_delay_s = None
    if issubclass(kind, RetryJob):
        retry_delay_s = _AS_THE_POLICY_SAYS if error.delay is None else error.delay  # type: ignore[attr-defined]
        message = ASKED_AGAIN
    else:
        message = message_of(error) or UNSAID
    return Failure(
        type=cut(kind.__name__, ERROR_MESSAGE_MAX_CHARS),
        message=message,
        traceback=_traceback_of(error),
        ancestors=tuple(qualified_name(c) for c in kind.__mro__ if c not in (BaseException, object)),
        retry_delay_s=retry_delay_s,
        final=issubclass(kind, FailJob),
    )


def message_of(error: BaseException) -> str:
    """Return str() of an exception, cut to the limit; says so where str() itself raises."""
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001 - the handler's class is broken, and its failure must still be told
        text = f"<its __str__ raised {type(second).__name__}>"
    return cut(text, ERROR_MESSAGE_MAX_CHARS)


def qualified_name(kind: type) -> str:
    """Return "module.Name" of a class: the form of `Failure.ancestors`."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _carried(error: BaseException) -> object:
    try:
        return getattr(error, "failure", None)
    except BaseException:  # noqa: BLE001 - as above
        return None


def _traceback_of(error: BaseException) -> str:
    try:
        formatted = traceback.TracebackException(
            type(error), error, _after_own_frames(error.__traceback__), limit=-_FRAMES_MAX, compact=True
        )
        text = "".join(formatted.format())
    except BaseException as second:  # noqa: BLE001 - as above: a broken __notes__, __cause__ or source file
        text = f"{type(error).__name__}: <its traceback cannot be formatted: {type(second).__name__}>"
    return cut(text, TRACEBACK_MAX_CHARS)


def _after_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame that is not headrace's; the whole where there is none."""
    rest = trace
    # By the package, since a child's own module is named __main__ there.
    while rest is not None and str(rest.tb_frame.f_globals.get("__package__")).partition(".")[0] == "headrace":
        rest = rest.tb_next
    return trace if rest is None else rest


def cut(text: str, max_chars: int) -> str:
    """Return valid Unicode of at most `max_chars`, the middle left out and the omission stated."""
    if len(text) > max_chars:
        mark = f"\n... {len(text) - max_chars} characters left out ...\n"
        room = max_chars - len(mark)
        head = int(room * _HEAD_SHARE)
        text = text[:head] + mark + text[len(text) - (room - head) :]
    if not text.isascii():  # lone surrogates, as in odd file names, could not be encoded
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")[:max_chars]
    return text
