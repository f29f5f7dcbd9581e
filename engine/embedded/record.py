"""What a data folder says of its server: a small JSON file, written by whoever holds the start-up lock.

The file is for finding the server (and for people); whether it lives is told by its lock alone. A file that cannot be
read counts as absent. Written whole or not at all. No mutable state in memory.
"""

import os
from pathlib import Path

import msgspec

from .private import private

RECORD_NAME = "server.json"


class ServerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One server of a data folder.

    Attributes:
        socket: Path of its unix socket.
        pid: Its process; 0 when it was stopped or is only just starting.
        binary: Path of the program.
        version: Product and version that wrote the data last, as in "Valkey 9.1.2"; empty until it has answered.
        data: The data folder; another one than that of the file when the folder was copied.
    """

    socket: str
    pid: int = 0
    binary: str = ""
    version: str = ""
    data: str = ""


def read_record(data: Path) -> ServerRecord | None:
    """Return what the data folder says of its server; None when it says nothing that can be read."""
    try:
        record = msgspec.json.decode((data / RECORD_NAME).read_bytes(), type=ServerRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return record


def write_record(data: Path, record: ServerRecord) -> None:
    """Replace what the data folder says of its server."""
    fresh = data / f"{RECORD_NAME}.new"
    with open(fresh, "wb", opener=private) as file:
        file.write(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    os.replace(fresh, data / RECORD_NAME)
