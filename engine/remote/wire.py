"""What the clients send and get, apart from who carries it: requests, replies, and the steps between.

A call is a generator of steps: it yields what is to be sent, or for how long to wait, and is given what came of it. So
each call is written once, without I/O, and driven from a thread or from an event loop. Records only.
"""

from collections.abc import Generator, Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request.

    Attributes:
        method: Its method.
        path: Below the API's own address.
        params: Its query, those that are None left out.
        content: Its body.
        headers: Beside those that every request has.
        repeatable: Whether it may be sent again where nobody knows whether the first was carried out.
        wait_s: Seconds for which the server is asked to wait at most before it answers; each try asks for no more than
            the call has left. None where it does not wait.
        margin_s: Seconds beyond that in which its answer comes, however little the call has left.
    """

    method: str
    path: str
    params: Mapping[str, str | int | float | None] = {}
    content: bytes = b""
    headers: Mapping[str, str] = {}
    repeatable: bool = True
    wait_s: float | None = None
    margin_s: float = 1.0


class Reply(msgspec.Struct, frozen=True):
    """What a server answered.

    Attributes:
        status: The status.
        headers: By their lower-case names.
        content: The body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


class Lost(msgspec.Struct, frozen=True):
    """A request that nothing was heard of.

    Attributes:
        why: What happened, in words.
        unsent: Whether it surely was not carried out, as the connection was never there.
        advice: What may help; empty where that is to be seen to the server and the address.
    """

    why: str
    unsent: bool
    advice: str = ""


class Send(msgspec.Struct, frozen=True):
    """A step: send a request.

    Attributes:
        request: It.
        timeout_s: Seconds for a connection, and for each piece of the answer.
    """

    request: Request
    timeout_s: float


class Pause(msgspec.Struct, frozen=True):
    """A step: wait.

    Attributes:
        seconds: How long.
    """

    seconds: float


#: A call: yields steps, is sent a Reply or a Lost for each Send and None for each Pause, and returns what it found.
Call = Generator[Send | Pause, Reply | Lost | None, T]


def body(record: Any) -> bytes:
    """Return a record as JSON.

    Raises:
        TypeError: JSON cannot say it.
    """
    return msgspec.json.encode(record)
