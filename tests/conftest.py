"""Fixtures for the whole suite: the event loops that every asynchronous test runs on."""

import pytest

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each asynchronous test on asyncio and on trio."""
    return request.param
