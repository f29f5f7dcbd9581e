"""Fixtures for the whole suite: the event loops that every asynchronous test runs on, and that no server is left."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from leftovers import insist_on_none

# On a busy machine one example may take longer than Hypothesis allows; how long things take is no test's matter here.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

# A shell that runs the suite in its background has it ignore Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each asynchronous test on asyncio and on trio."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _no_server_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run when it leaves a server; made first, so that it looks when all other fixtures have ended."""
    folder = tmp_path_factory.getbasetemp().resolve()
    yield
    insist_on_none(folder)
