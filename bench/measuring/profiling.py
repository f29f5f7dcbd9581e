"""Profiles of a probe: where its time goes, or what its memory holds.

cpu: a flame graph by py-spy where that is installed; else cProfile, of the loop's thread alone, as pstats and as text.
mem: tracemalloc at the end of the run, the 25 places that hold most by size and by count. A profiled run is slower, so
its figures are never stored. BENCH_PROFILE names the file in which a probe leaves its profile, BENCH_PROFILE_KIND what.
"""

import cProfile
import io
import os
import pathlib
import pstats
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .children import found
from .servers import HERE

TOP = 25
KINDS = ("cpu", "mem")


def profiler(kind: str, target: pathlib.Path) -> list[str]:
    """Return the command that runs a Python program under the profiler."""
    spy = found("py-spy") if kind == "cpu" else None
    python = [sys.executable]
    options = ["--subprocesses", "--rate", "200", "--output", f"{target}-cpu.svg", "--"]
    return [spy, "record", *options, *python] if spy else python


def environment(kind: str, target: pathlib.Path) -> dict[str, str]:
    """Return the variables that have a probe profile itself; none where py-spy does."""
    if kind == "cpu" and found("py-spy"):
        return {}
    return {"BENCH_PROFILE": f"{target}-{kind}", "BENCH_PROFILE_KIND": kind}


@contextmanager
def profiled() -> Iterator[None]:
    """Profile the block, in a probe, if the environment says so."""
    path = os.environ.get("BENCH_PROFILE")
    if not path:
        yield
        return
    finish = begin(path)
    try:
        yield
    finally:
        finish()


def begin(path: str) -> Callable[[], None]:
    """Begin a profile of this thread, or of this process's memory; returns what ends it and writes it down."""
    text = pathlib.Path(f"{path}.txt")
    if os.environ.get("BENCH_PROFILE_KIND", "cpu") == "mem":
        tracemalloc.start(1)

        def finish() -> None:
            text.write_text(_memory(), encoding="utf-8")
            tracemalloc.stop()
    else:
        profile = cProfile.Profile()
        profile.enable()

        def finish() -> None:
            profile.disable()
            profile.dump_stats(path)
            text.write_text(_times(profile), encoding="utf-8")

    return finish


def _times(profile: cProfile.Profile) -> str:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(TOP)
    return _short(text.getvalue())


def _memory() -> str:
    places = tracemalloc.take_snapshot().statistics("lineno")
    held, most = tracemalloc.get_traced_memory()
    lines = [f"held at the end {held / 1e6:.1f} MB, at the most {most / 1e6:.1f} MB"]
    for title, key in (("by size", lambda place: -place.size), ("by count", lambda place: -place.count)):
        lines += ["", title, f"{'KB':>10} {'count':>9}  where"]
        for place in sorted(places, key=key)[:TOP]:
            frame = place.traceback[0]
            lines.append(f"{place.size / 1000:10,.1f} {place.count:9,}  {frame.filename}:{frame.lineno}")
    return _short("\n".join(lines) + "\n")


def _short(text: str) -> str:
    """Return a text with paths that say something on any machine."""
    for folder, name in ((HERE.parent, ""), (sys.prefix, ".venv/"), (sys.base_prefix, "python/")):
        text = text.replace(f"{folder}{os.sep}", name)
    return text
