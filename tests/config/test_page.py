"""The configuration page in docs/ is the one that the declarations make."""

from pathlib import Path

from headrace import config
from headrace.config.page import page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_current() -> None:
    """docs/configuration.md is what `python -m headrace.config.page` prints now."""
    assert page() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_page_names_every_setting_and_its_variable() -> None:
    """Whoever reads the page has seen all there is to set."""
    for name, place in config.places().items():
        assert f"`{name}`<br>`HEADRACE_{name.replace('.', '__').upper()}`" in page()
        assert place.setting.about in page()


def test_the_public_names_are_there() -> None:
    """Each name in __all__ can be imported, and the list is sorted."""
    assert sorted(config.__all__) == [name for name in config.__all__ if hasattr(config, name)]
