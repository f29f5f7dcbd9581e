"""What is promised of Ctrl-C in a command that goes in batches: it comes between two of them."""

import signal
from collections.abc import Callable

import pytest

from headrace.engine.cli.patience import Patience


def interrupted(batch: Callable[[], object], then: Callable[[], object]) -> None:
    """Run a batch and what comes after it, which must end in an interrupt."""
    patience = Patience()
    with pytest.raises(KeyboardInterrupt), patience.listening():
        run(patience, batch, then)


def run(patience: Patience, batch: Callable[[], object], then: Callable[[], object]) -> None:
    with patience.uncut():
        batch()
    then()


def press() -> None:
    """Do what Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


def test_a_batch_comes_back_before_ctrl_c_is_obeyed() -> None:
    """What is inside ends, and then the interrupt comes."""
    ended: list[str] = []
    interrupted(lambda: (press(), ended.append("batch")), lambda: ended.append("too late"))
    assert ["batch"] == ended


def test_ctrl_c_between_two_batches_is_obeyed_at_once() -> None:
    """Nothing waits for a turn that may be long in coming."""
    ended: list[str] = []
    interrupted(lambda: ended.append("batch"), lambda: (press(), ended.append("too late")))
    assert ["batch"] == ended


def test_a_second_ctrl_c_cuts_a_batch_short() -> None:
    """A server that does not answer must not keep a person."""
    ended: list[str] = []
    interrupted(lambda: (press(), ended.append("first"), press(), ended.append("second")), lambda: None)
    assert ["first"] == ended


def test_the_signal_is_given_back() -> None:
    """Afterwards Ctrl-C does what it did before."""
    before = signal.getsignal(signal.SIGINT)
    with Patience().listening():
        assert before != signal.getsignal(signal.SIGINT)
    assert before == signal.getsignal(signal.SIGINT)
