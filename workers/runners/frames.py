"""Frames: what a process runner and its children say to each other over their socket.

A frame is a length of four bytes, big endian, and that many bytes of msgpack. The runner sends one Setup, then one Call
at a time; the child sends one Reply when it is ready and one for each Call, before which any number may say how far it
is. The runner's end of the socket closed, in either way, means that the child is to end. Nothing here waits or keeps
state; both ends are of one version of headrace.
"""

import struct
from enum import IntEnum
from typing import Final

import msgspec

HEADER_BYTES: Final = 4
_HEADER: Final = struct.Struct("!I")
_encode = msgspec.msgpack.Encoder().encode


class UnpackableResult(Exception):
    """A handler's result cannot be packed, or is too large to be sent: the handler's fault; return plain data."""


class FrameTooLarge(ValueError):
    """A frame is longer than the bound; the message has both numbers."""


class Setup(msgspec.Struct, frozen=True, array_like=True):
    """The first frame to a child.

    Attributes:
        search_path: The parent's sys.path, the working folder first.
        frame_max_bytes: The bound of a frame's body, both ways.
        parent_pid: The process that the child must not outlive.
    """

    search_path: list[str]
    frame_max_bytes: int
    parent_pid: int


class Target(msgspec.Struct, frozen=True, array_like=True):
    """Where a child finds a handler.

    Attributes:
        name: The handler's name, for messages.
        module: The module to import; the name under which `path` is loaded where there is one.
        path: File of the script that defines it; empty for a module that can be imported.
        qualname: Dotted name inside the module.
        wants_context: Whether it takes the Context first.
    """

    name: str
    module: str
    path: str
    qualname: str
    wants_context: bool


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One run of a handler.

    Attributes:
        target: A packed Target.
        args: The packed positional arguments, the Context left out.
        kwargs: The packed keyword arguments.
        info: A packed JobInfo, or nil where no Context is wanted.
    """

    target: msgspec.Raw
    args: msgspec.Raw
    kwargs: msgspec.Raw
    info: msgspec.Raw


class ReplyKind(IntEnum):
    """What a reply's payload is."""

    READY = 0  #: nil: the child has started
    VALUE = 1  #: what the handler returned
    FAILURE = 2  #: a Failure: the handler raised
    UNPACKABLE = 3  #: text: why what it returned cannot be sent
    PROGRESS = 4  #: two numbers: how far the handler is, done and in all; no answer, that follows


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What a child answers.

    Attributes:
        kind: What the payload is.
        payload: Packed; left as it is, so that a result passes through unread.
    """

    kind: ReplyKind
    payload: msgspec.Raw


def pack_frame(message: msgspec.Struct, body_max_bytes: int) -> bytes:
    """Return a whole frame.

    Raises:
        FrameTooLarge: the body is longer than `body_max_bytes`.
    """
    body = _encode(message)
    check_size(len(body), body_max_bytes)
    return _HEADER.pack(len(body)) + body


def body_size(header: bytes | bytearray | memoryview, body_max_bytes: int) -> int:
    """Return how many bytes follow a header.

    Raises:
        FrameTooLarge: more than `body_max_bytes`.
    """
    size: int = _HEADER.unpack_from(header)[0]
    check_size(size, body_max_bytes)
    return size


def check_size(size_bytes: int, body_max_bytes: int) -> None:
    """Raise FrameTooLarge where a body is longer than the bound."""
    if size_bytes > body_max_bytes:
        raise FrameTooLarge(f"{size_bytes:,} bytes are more than the {body_max_bytes:,} that cross to a process")
