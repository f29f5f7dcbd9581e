"""A server that answers every command with one and the same refusal, as servers do in bad hours."""

import contextlib
import socket
import threading
from typing import Self

import hiredis


class Refusing:
    """Listens on a loopback port of its own; use it as a context manager.

    It lets clients introduce themselves, as real servers do while they load.

    Args:
        reply: The error, such as "LOADING Redis is loading".

    Attributes:
        answered_count: How often it refused.
    """

    def __init__(self, reply: str) -> None:
        self._reply = f"-{reply}\r\n".encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self.answered_count = 0
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        reader = hiredis.Reader()
        with contextlib.suppress(OSError):
            while piece := client.recv(1 << 20):
                reader.feed(piece)
                while command := reader.gets():
                    introduces = command[0] in {b"CLIENT", b"SELECT"}
                    self.answered_count += not introduces
                    client.sendall(b"+OK\r\n" if introduces else self._reply)
