"""The Lua scripts, one file each in lua/, and how they are called: by their hashes, any number of them in one exchange.

A server that does not know a script (a new one, a failover, SCRIPT FLUSH) is taught it, and only the calls that failed
for that are sent again, with their texts, so that nothing can come between. No state beyond the texts, read once.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Final, Protocol

import msgspec
from redis.exceptions import NoScriptError

from .address import Address
from .connections import Command, raise_first


class Script(msgspec.Struct, frozen=True):
    """A script.

    Attributes:
        name: Its file's name without ".lua".
        text: What the server runs.
        sha1: Its hash in hexadecimal, by which it is called.
    """

    name: str
    text: bytes
    sha1: bytes

    def call(self, keys: Sequence[bytes], *args: bytes | str | int) -> Command:
        """Return the command that runs it.

        Args:
            keys: The keys that its header names, in that order.
            args: The arguments that its header names.
        """
        return (b"EVALSHA", self.sha1, len(keys), *keys, *args)


class Exchange(Protocol):
    """What carries commands: a Wire or a Wires."""

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one piece and return their replies in order."""


@cache
def script(name: str) -> Script:
    """Return the script of lua/NAME.lua."""
    text = _INCLUDE.sub(lambda match: _read(f"include/{match[1].decode()}"), _read(name))
    made = Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())
    _BY_SHA1[made.sha1] = made
    return made


def run(wire: Exchange, commands: Sequence[Command]) -> list[Any]:
    """Exchange commands, some of which call scripts; scripts that the server lacks are loaded and called again.

    Returns:
        Replies in order; a ResponseError in place of a refused one.

    Raises:
        BrokerUnavailable: as Wire.exchange.
    """
    if not commands:
        return []
    replies = wire.exchange(commands)
    missed = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missed:
        texts = {i: _BY_SHA1[sha1].text for i in missed if isinstance(sha1 := commands[i][1], bytes)}
        loads: list[Command] = [(b"SCRIPT", b"LOAD", text) for text in dict.fromkeys(texts.values())]
        again = wire.exchange([*loads, *[(b"EVAL", text, *commands[i][2:]) for i, text in texts.items()]])
        for i, reply in zip(missed, again[len(loads) :], strict=True):
            replies[i] = reply
    return replies


def teach(wire: Exchange, where: Address) -> None:
    """See that the server knows every script, so that the first calls take no longer than others.

    Raises:
        BrokerUnavailable: as Wire.exchange, or the server refuses scripts.
    """
    names = sorted(file.name.removesuffix(".lua") for file in _FOLDER.iterdir() if file.name.endswith(".lua"))
    scripts = [script(name) for name in names]
    replies = wire.exchange([(b"SCRIPT", b"EXISTS", *[each.sha1 for each in scripts])])
    raise_first(replies, where)
    lacking = [each for each, known in zip(scripts, replies[0], strict=True) if not known]
    if lacking:
        raise_first(wire.exchange([(b"SCRIPT", b"LOAD", each.text) for each in lacking]), where)


def _read(name: str) -> bytes:
    return _FOLDER.joinpath(f"{name}.lua").read_bytes()


_FOLDER: Final = resources.files(__package__).joinpath("lua")
#: A line for which the text of lua/include/NAME.lua stands: what several scripts do alike.
_INCLUDE: Final = re.compile(rb"^-- include (\w+)\n", re.MULTILINE)
_BY_SHA1: Final[dict[bytes, Script]] = {}
