"""A proxy for loopback connections to a server, which can be slow, silent, cut, or lose replies.

It passes bytes both ways and reads no protocol. Faults hold for what passes while they are set; `stall` and `reset`
hit the connections that there are, and leave later ones alone. All is done by threads of its own.
"""

import contextlib
import random
import socket
import struct
import threading
import time
from typing import Self


class _Pair:
    """One client's connection and its own to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.open = threading.Event()  # cleared: nothing passes, and nobody is told
        self.open.set()
        self.doomed = False  # the next reply is lost

    def hang_up(self, *, reset: bool = False) -> None:
        self.open.set()
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:  # closing then sends RST instead of FIN
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                each.close()


class Proxy:
    """Listens on a port of its own; use it as a context manager.

    Args:
        port: The server's, on 127.0.0.1.

    Attributes:
        url: redis://127.0.0.1:PORT/0, where it listens.
        delay_s: How long each piece takes, each way; with jitter of half of it.
        lost_count: Replies that were lost.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[_Pair] = []
        self._word = b""
        self._times = 0
        self.delay_s = 0.0
        self.lost_count = 0
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in list(self._pairs):
            pair.hang_up()

    def lose_replies(self, word: bytes, times: int = 1) -> None:
        """Pass on the next commands that contain `word`, lose their replies, and cut their connections then."""
        self._word, self._times = word, times

    def reset(self) -> None:
        """Cut all connections without a word."""
        for pair in list(self._pairs):
            pair.hang_up(reset=True)

    def stall(self) -> None:
        """Let nothing pass on the connections that there are, and tell nobody."""
        for pair in list(self._pairs):
            pair.open.clear()

    @property
    def connections_count(self) -> int:
        """Connections that there are."""
        return len(self._pairs)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), 5.0)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, server)
            self._pairs.append(pair)
            threading.Thread(target=self._commands, args=(pair,), daemon=True).start()
            threading.Thread(target=self._replies, args=(pair,), daemon=True).start()

    def _commands(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while piece := pair.client.recv(1 << 20):
                if self._times and self._word in piece:
                    self._times -= 1
                    pair.doomed = True
                self._hold(pair)
                pair.server.sendall(piece)
        self._forget(pair)

    def _replies(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while piece := pair.server.recv(1 << 20):
                if pair.doomed:
                    self.lost_count += 1
                    break
                self._hold(pair)
                pair.client.sendall(piece)
        self._forget(pair)

    def _hold(self, pair: _Pair) -> None:
        pair.open.wait()
        if self.delay_s:
            time.sleep(self.delay_s * random.uniform(0.75, 1.25) / 2)

    def _forget(self, pair: _Pair) -> None:
        if pair in self._pairs and pair.open.is_set():
            with contextlib.suppress(ValueError):
                self._pairs.remove(pair)
        if pair.open.is_set():
            pair.hang_up()
