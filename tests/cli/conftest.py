"""The stage of tests of the command line, with an embedded server of its own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from command_stage import Stage
from embedded_scene import kill_server
from headrace.engine.cli.app import command_line
from headrace.engine.embedded import acquire
from headrace.engine.embedded.record import read_record
from leftovers import SHORT


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage whose folder is the working folder, with its server held open for the test."""
    folder = Path(tempfile.mkdtemp(prefix=SHORT))
    stage = Stage(folder)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    for name in ("HEADRACE_URL", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, stage.environ[name])
    server = acquire(folder / "data", environ=stage.environ, folder=folder)
    try:
        yield stage
    finally:
        stage.close()
        server.release()
        # Commands that were called in this process hold it until the process ends.
        if (record := read_record(folder / "data")) is not None:
            kill_server(record)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def invoke(stage: Stage):
    """Call the command line in this process."""

    def call(*args: str, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(command_line, list(args), input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call
