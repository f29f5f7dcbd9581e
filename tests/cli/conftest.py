"""The stage of tests of the command line, with an embedded server of its own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from command_stage import Stage
from headrace.engine.cli.app import command_line
from headrace.engine.embedded import acquire


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage whose folder is the working folder, with its server held open for the test."""
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
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
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def invoke(stage: Stage):
    """Call the command line in this process."""

    def call(*args: str, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(command_line, list(args), input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call
