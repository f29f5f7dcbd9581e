"""A served API in a process of its own, as `headrace serve` runs it, for tests that need real connections."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = """
import json, sys
from headrace.engine.http.serve import serve
serve(**json.loads(sys.argv[1]))
"""


@contextmanager
def served(url: str, folder: Path, **settings: Any) -> Iterator[tuple[str, int]]:
    """Yield the address of an API over a server, and its process's id.

    Args:
        url: The server's.
        folder: Where it runs.
        settings: Others, by their names.
    """
    flags = json.dumps({"url": url, **settings, "http": {"port": 0, **settings.get("http", {})}})
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, flags], cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert said.startswith("headrace: the API is at "), said
        yield said.split()[-1], process.pid
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
