"""What a type checker tells a user about the states of a job; `make check` checks it, nothing runs it."""

from typing import assert_type

from headrace.jobs.states import State, after, diagram

assert_type(after(State.QUEUED, "deliver"), State)
assert_type(diagram(), str)
