"""Counts what a fixed run makes our own code do, by function: bytecode instructions, and calls.

Both count in the thread that enters them. Code of Python and of other libraries is not counted, however often it is
called: a call to them is one call. What a long and a short run have in common is no job's cost, so `each` takes the
difference of two, and divides it by the jobs that the one had more.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Self

import headrace

ROOT: Final = Path(headrace.__file__).parent
OURS: Final = tuple(str(ROOT / part) for part in ("engine", "workers", "jobs", "config"))
#: The code inside a function that some Pythons compile apart and others in place, such as that of a comprehension.
_INNER: Final = re.compile(r"\.<locals>\.<\w+>")

_monitoring: Any = getattr(sys, "monitoring", None)
_TOOL: Final = 2  # the number that is meant for profilers


class Cells:
    """A count for each code of ours, found by the code's id: its hash is made of all its bytes, each time anew.

    Attributes:
        counts: Id of a code -> its count, in a list of one.
    """

    def __init__(self) -> None:
        self.counts: dict[int, list[int]] = {}
        self._codes: dict[int, CodeType] = {}

    def of(self, code: CodeType) -> list[int] | None:
        """Return the count of some code; None where it is not ours."""
        if id(code) not in self._codes:
            self._codes[id(code)] = code  # kept, so that no other code gets its id
            if code.co_filename.startswith(OURS):
                self.counts[id(code)] = [0]
        return self.counts.get(id(code))

    def by_code(self) -> dict[CodeType, int]:
        """Return what was counted."""
        return {self._codes[number]: count[0] for number, count in self.counts.items()}


class TracedInstructions:
    """Counts instructions while it is entered, by tracing; for Python 3.11, which has nothing better.

    Attributes:
        by_code: What was counted, by the code that did it.
    """

    def __init__(self) -> None:
        self.by_code: dict[CodeType, int] = {}
        self._cells = Cells()
        self._notes: dict[int, Callable[[FrameType, str, object], Any] | None] = {}

    def __enter__(self) -> Self:
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(None)
        self.by_code = self._cells.by_code()

    def _enter_frame(self, frame: FrameType, _event: str, _arg: object) -> Any:
        code = frame.f_code
        if id(code) not in self._notes:
            self._notes[id(code)] = self._note_for(code)
        note = self._notes[id(code)]
        if note is not None:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return note

    def _note_for(self, code: CodeType) -> Callable[[FrameType, str, object], Any] | None:
        """Return what is called at each instruction of some code; one for each, for it is called millions of times."""
        cell = self._cells.of(code)
        if cell is None:
            return None

        def note(_frame: FrameType, event: str, _arg: object) -> Any:
            if event == "opcode":
                cell[0] += 1
            return note

        return note


class MonitoredInstructions:
    """Counts instructions while it is entered, by sys.monitoring, which Python has from 3.12 on.

    Attributes:
        by_code: What was counted, by the code that did it.
    """

    def __init__(self) -> None:
        self.by_code: dict[CodeType, int] = {}
        self._cells = Cells()

    def __enter__(self) -> Self:
        events, counts = _monitoring.events, self._cells.counts

        def note(code: CodeType, _offset: int) -> None:
            counts[id(code)][0] += 1

        _monitoring.use_tool_id(_TOOL, "headrace guard")
        _monitoring.restart_events()
        _monitoring.register_callback(_TOOL, events.INSTRUCTION, note)
        for event in (events.PY_START, events.PY_RESUME):
            _monitoring.register_callback(_TOOL, event, self._enter_code)
        _monitoring.set_events(_TOOL, events.PY_START | events.PY_RESUME)
        return self

    def __exit__(self, *exc_info: object) -> None:
        events = _monitoring.events
        self.by_code = self._cells.by_code()
        _monitoring.set_events(_TOOL, 0)
        for code in self.by_code:
            _monitoring.set_local_events(_TOOL, code, 0)
        for event in (events.INSTRUCTION, events.PY_START, events.PY_RESUME):
            _monitoring.register_callback(_TOOL, event, None)
        _monitoring.free_tool_id(_TOOL)

    def _enter_code(self, code: CodeType, _offset: int) -> object:
        """Have the instructions of code of ours counted from now on; the same place need not be told again."""
        if id(code) not in self._cells.counts and self._cells.of(code) is not None:
            _monitoring.set_local_events(_TOOL, code, _monitoring.events.INSTRUCTION)
        return _monitoring.DISABLE


class Calls:
    """Counts, while it is entered, the calls that our own code receives, and those that it makes to functions in C.

    Attributes:
        by_code: What was counted, by the code that was called or calls.
    """

    def __init__(self) -> None:
        self.by_code: dict[CodeType, int] = {}
        self._cells = Cells()

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.setprofile(None)
        self.by_code = self._cells.by_code()

    def _note(self, frame: FrameType, event: str, _arg: object) -> None:
        if event in {"call", "c_call"} and (cell := self._cells.of(frame.f_code)) is not None:
            cell[0] += 1


#: What counts instructions on this Python.
INSTRUCTIONS: Final[Callable[[], Any]] = TracedInstructions if _monitoring is None else MonitoredInstructions


def each(run: Callable[[int, Any], None], counting: Callable[[], Any], short: int, long: int) -> dict[str, float]:
    """Return what one job of a run makes our code do, by function, the most first.

    Args:
        run: Takes how many jobs to run, and what to enter meanwhile.
        counting: Makes what is entered, such as Calls.
        short: Jobs of the short run.
        long: Jobs of the long run.
    """
    counts: list[Counter[str]] = []
    for jobs in (short, long):
        entered = counting()
        run(jobs, entered)
        named: Counter[str] = Counter()
        for code, count in entered.by_code.items():
            named[name_of(code)] += count
        counts.append(named)
    few, many = counts
    return {name: (count - few[name]) / (long - short) for name, count in many.most_common()}


def name_of(code: CodeType) -> str:
    """Return file and function of code of ours, such as "workers/pool.py Pool._turns"."""
    return f"{Path(code.co_filename).relative_to(ROOT).as_posix()} {_INNER.sub('', code.co_qualname)}"
