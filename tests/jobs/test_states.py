"""The table of states: whole, and the only one."""

import pytest

from headrace.jobs.states import ENDED, MOVES, State, after, diagram


def test_every_state_can_be_reached() -> None:
    """From the two states of a submission every state is reached, and each has its row."""
    reached, ahead = set(), [State.DELAYED, State.QUEUED]
    while ahead:
        state = ahead.pop()
        if state not in reached:
            reached.add(state)
            ahead += MOVES[state].values()
    assert set(State) == reached == set(MOVES)


def test_an_end_is_an_end() -> None:
    """Only a dead job moves on, when it is retried; from every other state an end can be reached."""
    assert {State.DEAD} == {state for state in ENDED if MOVES[state]}
    for start in State:
        reached, ahead = set(), [start]
        while ahead:
            state = ahead.pop()
            if state not in reached:
                reached.add(state)
                ahead += MOVES[state].values()
        assert ENDED & reached


def test_a_move_leads_on() -> None:
    """`after` reads the table, and refuses what is not in it."""
    assert State.RUNNING is after(State.QUEUED, "deliver")
    assert State.QUEUED is after(State.DEAD, "retry")
    for state, event in [(State.SUCCEEDED, "retry"), (State.QUEUED, "fly"), (State.DELAYED, "deliver")]:
        with pytest.raises(ValueError, match=f"{state} cannot '{event}'"):
            after(state, event)


def test_the_diagram_has_every_move_once() -> None:
    """The Mermaid diagram shows each move of the table, each start and each end."""
    lines = diagram().splitlines()
    moves = [f"    {state} --> {to}: {event}" for state, row in MOVES.items() for event, to in row.items()]
    ends = [f"    {state} --> [*]" for state in State if state in ENDED]
    assert sorted([*moves, *ends]) == sorted(line for line in lines[3:])
    assert ("stateDiagram-v2", 2) == (lines[0], sum("[*] -->" in line for line in lines))


def test_the_words_are_the_users_words() -> None:
    """A state is the word that users see."""
    assert [
        "delayed", "queued", "running", "retrying", "succeeded", "dead", "cancelled", "expired",
    ] == [str(state) for state in State]  # fmt: skip
