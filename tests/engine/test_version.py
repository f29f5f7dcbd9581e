"""`headrace.__version__`."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from click.testing import CliRunner

import headrace
from headrace.engine.cli.app import command_line


def test_the_version_is_the_installed_one() -> None:
    """It is what the package's metadata say, and what `headrace --version` prints."""
    assert version("headrace") == headrace.__version__
    assert headrace.__version__ in CliRunner().invoke(command_line, ["--version"]).output
    assert "__version__" in dir(headrace)


def test_the_version_costs_an_import_nothing() -> None:
    """The metadata are read when somebody asks."""
    program = "import sys, headrace; print('importlib.metadata' in sys.modules, headrace.__version__)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"False {headrace.__version__}\n" == ended.stdout


def test_other_names_are_still_none() -> None:
    """A name that is not public is an AttributeError, as before."""
    with pytest.raises(AttributeError, match="__author__"):
        headrace.__author__  # noqa: B018
