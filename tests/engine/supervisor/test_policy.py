"""What a supervisor does about a child that ended."""

import pytest

from headrace.engine.supervisor.policy import Ended, giving_up, pause_s


def test_pauses_double_up_to_half_a_minute() -> None:
    """A child that lived is started again at once; one that dies young waits twice as long each time, at most 30 s."""
    assert [0.0, 0.1, 0.2, 0.4] == [pause_s(deaths) for deaths in range(4)]
    assert [30.0, 30.0] == [pause_s(10), pause_s(10_000)]


CONFIG = Ended(2, 0.3, 1)
AWAY = Ended(3, 0.3, 1)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ([CONFIG, CONFIG], 2),
        ([CONFIG, None], None),
        ([CONFIG, Ended(0, 0.3, 1)], None),
        ([AWAY, AWAY], 3),
        ([AWAY, Ended(3, 0.3, 2)], None),
        ([Ended(2, 100.0, 1)], None),
        ([Ended(-9, 0.1, 1)], None),
    ],
)
def test_it_gives_up_when_all_say_why(last, code) -> None:
    """Only a wrong configuration, or a server that is away at everybody's first start, ends all attempts."""
    assert code == giving_up(last)
