"""The stage on which each test of the embedded server plays."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded_scene import Scene
from leftovers import SHORT


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A place for one server, left without a process."""
    with tempfile.TemporaryDirectory(prefix=SHORT, dir="/tmp") as root:
        scene = Scene(Path(root).resolve())
        try:
            yield scene
        finally:
            scene.close()
