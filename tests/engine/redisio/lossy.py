"""A relay in front of a server that loses one reply on purpose: the command arrives, its answer does not.

`lose(word)` arms it: the next command with `word` in it is passed on, and its connection is cut when the reply comes.
"""

import contextlib
import socket
import threading
from typing import Self


class LossyRelay:
    """Passes bytes both ways between loopback ports, from threads of its own; use it as a context manager."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._word = b""
        self._sockets: list[socket.socket] = []
        self.lost_count = 0
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up(self._listener, *self._sockets)

    def lose(self, word: bytes) -> None:
        """Lose the reply to the next command that contains `word`."""
        self._word = word

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += [client, server]
            doomed = threading.Event()
            threading.Thread(target=self._pass_commands, args=(client, server, doomed), daemon=True).start()
            threading.Thread(target=self._pass_replies, args=(server, client, doomed), daemon=True).start()

    def _pass_commands(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while sent := client.recv(1 << 20):
                if self._word and self._word in sent:
                    self._word = b""
                    doomed.set()
                server.sendall(sent)
        self._hang_up(client, server)

    def _pass_replies(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while reply := server.recv(1 << 20):
                if doomed.is_set():
                    self.lost_count += 1
                    break
                client.sendall(reply)
        self._hang_up(client, server)

    @staticmethod
    def _hang_up(*sockets: socket.socket) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
