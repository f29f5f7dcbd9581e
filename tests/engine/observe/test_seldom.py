"""A lasting fault writes few lines."""

import logging

import pytest

from headrace.config import logger
from headrace.engine.observe import seldom
from headrace.engine.observe.seldom import Seldom


def test_a_repeated_event_is_written_seldom(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line comes at once, those of the next seconds are counted, and the next line says how many."""
    lines = Seldom(logger("test.seldom"))
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            lines.warning("server away", number=number)
        lines.warning("refused")
        monkeypatch.setattr(seldom, "EVERY_S", 0.0)
        lines.warning("server away", number=100)
        lines.warning("server away", number=101)
    shown = [str(record.msg) for record in caplog.records]
    assert ["server away number=0", "refused", "server away number=100 times=100", "server away number=101"] == shown
