"""A server on loopback that answers as a test's script says, each request on a connection of its own."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple


class Heard(NamedTuple):
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


def answer(status: int, body: Any = None, **headers: str) -> bytes:
    """Return an answer with a JSON body; names of headers have underscores for dashes."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(content)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def stream(text: str) -> bytes:
    """Return a stream of events that ends with its connection."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + text.encode()


class Scripted:
    """Answers each request with the next line of its script; b"" closes the connection without one.

    Attributes:
        url: Where it is.
        heard: What was asked, in order.
    """

    def __init__(self, script: list[bytes]) -> None:
        self._script = list(script)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.heard: list[Heard] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                heard = _read(connection)
                if heard is None:
                    continue
                self.heard.append(heard)
                connection.sendall(self._script.pop(0) if self._script else answer(500))


def _read(connection: socket.socket) -> Heard | None:
    connection.settimeout(10)
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Heard(line, headers, body)


@contextlib.contextmanager
def scripted(*script: bytes) -> Iterator[Scripted]:
    """Yield a server with a script."""
    server = Scripted(list(script))
    try:
        yield server
    finally:
        server.close()
