"""What the heartbeat promises of its tries while the server is away."""

from headrace.engine.loops.heartbeat import away_pause_s


def test_the_less_is_left_of_a_lease_the_sooner_it_is_tried_again() -> None:
    """A tenth of what is left, at least 50 ms and at most half a second; what is over is not urgent."""
    assert [0.5, 0.5, 0.33, 0.1, 0.05, 0.5] == [round(away_pause_s(left_s), 2) for left_s in (30, 5, 3.3, 1, 0.2, -1)]
