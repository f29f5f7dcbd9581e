"""The pages that are made from code are what the code says now."""

import importlib.util
from types import ModuleType

import pytest

from checkout import ROOT


@pytest.fixture
def generate() -> ModuleType:
    """docs/generate.py, loaded as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    """Every generated page on disk is what `make docs` would write."""
    on_disk = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in generate.PAGES}
    assert {name: page() for name, page in generate.PAGES.items()} == on_disk
