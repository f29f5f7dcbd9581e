"""A listener: a thread with a connection of its own that subscribes to channels and hands on what is said there.

It promises to subscribe again, after jittered pauses, whenever the connection fails, and to say each time that it has,
since words that were said meanwhile are lost. A network that died in silence is noticed by a PING. Its thread owns the
connection; nobody waits for that thread.
"""

import contextlib
import random
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from .address import Address
from .connections import REPLY_TIMEOUT_S
from .counting import CountingParser

#: A PING after this long without a word; without an answer after as long again, the connection is taken for dead.
QUIET_S: Final = 5.0
#: Pauses between tries to connect.
AWAY_FIRST_S, AWAY_LONGEST_S = 0.05, 2.0


class Listener:
    """Listens to channels.

    Args:
        address: Where the server is.
        channels: What to subscribe to, at least one.
        hear: Called with a channel and what was said there, in the listener's thread; must not raise.
        connected: Called there after each subscribing.
        failed: Called there with what went wrong, before each pause.
    """

    def __init__(
        self,
        address: Address,
        channels: tuple[bytes, ...],
        hear: Callable[[bytes, str], None],
        connected: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._address = address
        self._channels = channels
        self._hear = hear
        self._connected = connected
        self._failed = failed
        self._ended = threading.Event()
        self._connection: Any = None
        self._thread = threading.Thread(target=self._run, name="headrace-control", daemon=True)

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns at once. Safe to call twice, from any thread."""
        self._ended.set()
        sock = getattr(self._connection, "_sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # its thread reads the end, and closes what is its own

    def _run(self) -> None:
        pause_s = AWAY_FIRST_S
        while not self._ended.is_set():
            try:
                self._subscribe()
                pause_s = AWAY_FIRST_S
                self._connected()
                self._listen()
            except (RedisError, OSError) as error:
                if not self._ended.is_set():
                    self._failed(error)
            finally:
                self._connection.disconnect()
            self._ended.wait(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(AWAY_LONGEST_S, pause_s * 2)

    def _subscribe(self) -> None:
        options = {"port": 6379} | self._address.options if "host" in self._address.options else self._address.options
        connection = self._connection = self._address.connection_class(
            **options,
            socket_timeout=REPLY_TIMEOUT_S,
            socket_connect_timeout=REPLY_TIMEOUT_S,
            parser_class=CountingParser,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
            client_name="headrace:control",
            protocol=2,
        )
        connection.connect()
        connection.send_command("SUBSCRIBE", *self._channels)
        for _ in self._channels:
            connection.read_response()

    def _listen(self) -> None:
        """Hand on what is said until the connection fails or `stop` is called."""
        connection, asked = self._connection, False
        while not self._ended.is_set():
            if not connection.can_read(QUIET_S):
                if asked:
                    raise ConnectionError(f"no answer from {self._address.url} for {QUIET_S:g} s")
                connection.send_command("PING")
                asked = True
                continue
            asked = False
            said = connection.read_response()
            if said[0] == b"message":
                self._hear(said[1], said[2].decode(errors="replace"))
