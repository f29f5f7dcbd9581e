"""The programs in examples/ run as they stand, each in a process of its own, in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import ROOT
from leftovers import SHORT

#: Generous: only a hang is to be caught.
DEADLINE_S = 60.0
EXAMPLES = ROOT / "examples"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix=SHORT, dir="/tmp") as name:
        yield Path(name)


def start(folder: Path, name: str, *args: str) -> "subprocess.Popen[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environ = {**kept, "XDG_STATE_HOME": str(folder / "state"), "XDG_RUNTIME_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *args], env=environ, cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process: "subprocess.Popen[str]") -> None:
    """Leave neither the process nor its pipes, however the test went."""
    process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def output_of(folder: Path, name: str, *args: str) -> list[str]:
    process = start(folder, name, *args)
    try:
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
    finally:
        end(process)
    assert 0 == process.returncode, stderr
    return stdout.splitlines()


def test_every_example_is_run_here() -> None:
    """There are three examples, and the tests below run all of them."""
    assert {"hello.py", "embed_dispatcher.py", "web_embed.py"} == {path.name for path in EXAMPLES.glob("*.py")}


def test_hello(folder: Path) -> None:
    """The first engine adds, hashes a file in a thread, refuses wrong arguments, and tells of a failed job."""
    sums, own, refused, failed = output_of(folder, "hello.py")
    assert "sums: [0, 2, 4, 6, 8]" == sums
    assert len("this file: ") + 16 == len(own)
    assert refused.startswith("refused before it was queued: ")
    assert failed.startswith("failed: FileNotFoundError: ")


def test_embed_dispatcher(folder: Path) -> None:
    """The dispatcher's program writes one line for each outcome, the failed one among them, and needs no server."""
    path = folder / "out.jsonl"
    lines = output_of(folder, "embed_dispatcher.py", str(path))
    assert ["letters: 6", f"sum of squares: {sum(n * n for n in range(200)) - 169}"] == lines[:2]
    assert "failed: ValueError: unlucky" == lines[2]
    outcomes = [json.loads(line) for line in path.read_text().splitlines()]
    assert 201 == len(outcomes)
    assert ["ValueError: unlucky"] == [outcome["error"] for outcome in outcomes if outcome["status"] == "failed"]
    assert not (folder / "state").exists()


def test_web_embed(folder: Path) -> None:
    """The application answers with what its job returned, refuses a request without a body, and ends at a signal."""
    process = start(folder, "web_embed.py", "0")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, b"so far so good", timeout=DEADLINE_S) as reply:
            assert {"so": 2, "far": 1, "good": 1} == json.load(reply)
        request = urllib.request.Request(url, headers={"Content-Length": "many"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=DEADLINE_S)
        assert 400 == refused.value.code
        refused.value.close()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
        assert (0, "stopped\n") == (process.returncode, stdout), stderr
        assert "Traceback" not in stderr
    finally:
        process.kill()
        process.communicate()
