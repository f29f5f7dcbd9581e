"""Does a job cost more than it did? Counted, never timed, and compared with bench/baseline.json.

Counts what a plain no-op job takes on a fixed run: bytecode instructions and calls of our own code, allocations and the
memory that is held, on its way through the worker and through submission; commands, round trips and bytes of the AOF at
a real server. Ends with 1 where one has grown beyond its margin, and names the functions or commands; with 2 where the
baseline is damaged.

    python bench/guard.py [--update] [--callgrind]
"""

import argparse
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import Any

import msgspec
from guarding import allocations, baseline, callgrind, commands, counting, report, runs
from guarding.baseline import BadBaseline, Baseline, Change, Row
from support import child, server

LOOPS = ("asyncio", "trio")
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Jobs of the two runs whose difference is counted.
SHORT, LONG = 2_000, 4_000
#: Parts below this are what is done once a batch; the totals have them.
PART_LEAST = 0.5
#: The runs at a server: whether the job's result is kept.
RESULTS = {"results kept": True, "no results": False}


def count_code(loop: str, short: int = SHORT, long: int = LONG) -> dict[str, Row]:
    """Return what our code does for one job of each fixed run, counted in this process."""
    rows = {}
    for name, run in runs.RUNS.items():
        run(loop, runs.BATCH)  # what is done once and never again
        figures, by = {}, {}
        for figure, kind in (("instructions", counting.INSTRUCTIONS), ("calls", counting.Calls)):
            each = counting.each(partial(run, loop), kind, short, long)
            figures[figure] = round(sum(each.values()), 2)
            by[figure] = {part: round(share, 2) for part, share in each.items() if share >= PART_LEAST}
        rows[f"{name} on {loop}"] = Row(figures, by)
    return rows


def count_allocations(loop: str, short: int = SHORT, long: int = LONG) -> dict[str, Row]:
    """Return how often one job of each fixed run allocates, counted in this process; nothing without a C compiler."""
    rows = {}
    for name, run in runs.RUNS.items() if allocations.compiler() else ():
        run(loop, runs.BATCH)  # what is done once and never again
        rows[f"{name} on {loop}"] = Row({"allocations": round(allocations.each(partial(run, loop), short, long), 2)})
    return rows


def count_loop(loop: str) -> dict[str, Row]:
    """Return all that is counted of the fixed runs on one loop; allocations first, for counting makes some."""
    allocated = count_allocations(loop)
    return {
        name: msgspec.structs.replace(row, figures=row.figures | (allocated[name].figures if name in allocated else {}))
        for name, row in count_code(loop).items()
    }


def weigh(short: int = SHORT, long: int = LONG) -> dict[str, Row]:
    """Return the memory that one job holds of this process: while it waits for a slot, and as a handle."""

    def each(look: Callable[[], int]) -> dict[str, float]:
        runs.held(look, runs.BATCH)
        few, many = runs.held(look, short), runs.held(look, long)
        return {name: round((many[name] - few[name]) / (long - short), 2) for name in few}

    blocks = each(sys.getallocatedblocks)
    tracemalloc.start()
    sizes = each(lambda: tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return {name: Row({"held_blocks": blocks[name], "held_bytes": sizes[name]}) for name in blocks}


def count_here() -> dict[str, Row]:
    """Return all rows that depend on this Python; those of each loop are counted in a process of its own."""
    with ThreadPoolExecutor(len(LOOPS)) as pool:
        found: Iterable[Any] = pool.map(lambda loop: child("guard.py", "--count", loop), LOOPS)
        rows = {name: msgspec.convert(row, Row) for part in found for name, row in part.items()}
    return rows | weigh()


def ask_servers() -> dict[str, Row]:
    """Return the rows of the fixed runs at a server."""
    rows = {}
    for name, keeps_results in RESULTS.items():
        with server("everysec") as (socket, _):
            rows[name] = commands.fixed(socket, keeps_results=keeps_results)
    return rows


def ask_live(bounds: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Print what an engine at full load takes, and return as sentences what of it is beyond the bounds of its run."""
    wrong = []
    for loop, (name, most) in product(LOOPS, bounds.items()):
        with server("everysec") as (socket, _):
            row = commands.live(loop, socket, keeps_results=RESULTS[name])
        shown = ", ".join(f"{row.figures[figure]:.4g} {figure} (at most {bound:g})" for figure, bound in most.items())
        print(f"at full load on {loop}, {name}: {shown}")
        parts = ", ".join(f"{part} {share:.4g}" for part, share in list(row.by["commands"].items())[:5])
        wrong += [
            f"an engine at full load on {loop}, {name}, takes {row.figures[figure]:.4g} {figure} a job, and may take "
            f"{bound:g}; its commands: {parts}, ..."
            for figure, bound in most.items()
            if row.figures[figure] > bound
        ]
    return wrong


def count_machine() -> dict[str, Row]:
    """Return the rows of machine instructions, one run after the other."""
    every = [(name, loop) for loop in LOOPS for name in runs.RUNS]
    return {
        f"{name} on {loop}": Row({"machine_instructions": callgrind.instructions(__file__, name, loop)})
        for name, loop in every
    }


def check(committed: Baseline, *, with_callgrind: bool) -> int:
    """Compare and print; return the exit code."""
    changes: list[Change] = []
    if not allocations.compiler():
        print(f"guard: allocations are not counted: that takes a C compiler ({', '.join(allocations.COMPILERS)})")
    if MINOR in committed.python:
        changes += baseline.compare(committed.python[MINOR], count_here(), committed.margins)
    else:
        print(
            f"guard: {baseline.PATH.name} has no figures for Python {MINOR}, only for {', '.join(committed.python)}: "
            f"compared is what a server counts. `make baseline` under Python {MINOR} adds them."
        )
    changes += baseline.compare(committed.server, ask_servers(), committed.margins)
    if with_callgrind:
        before = committed.machine.get(callgrind.where(), {})
        changes += baseline.compare(before, count_machine(), committed.margins)
    print(report.table(changes))
    wrong = [report.growth(change) for change in changes if change.has_grown]
    wrong += ask_live(committed.bounds)
    for sentence in wrong:
        print(f"guard: {sentence}", file=sys.stderr)
    if wrong:
        print(report.ADVICE, file=sys.stderr)
    return 1 if wrong else 0


def update(committed: Baseline, *, with_callgrind: bool) -> None:
    """Count anew, write the baseline, and print what is different.

    Raises:
        SystemExit: something cannot be counted here, so the baseline would lose it.
    """
    if not allocations.compiler():
        raise SystemExit("guard: a baseline has allocations, which take a C compiler: install one of "
                         f"{', '.join(allocations.COMPILERS)}")  # fmt: skip
    python, servers, machine = committed.python | {MINOR: count_here()}, ask_servers(), dict(committed.machine)
    if with_callgrind:
        machine[callgrind.where()] = count_machine()
    baseline.write(msgspec.structs.replace(committed, python=python, server=servers, machine=machine))
    changes = [*baseline.compare(committed.python.get(MINOR, {}), python[MINOR], {})]
    changes += baseline.compare(committed.server, servers, {})
    if with_callgrind:
        before = committed.machine.get(callgrind.where(), {})
        changes += baseline.compare(before, machine[callgrind.where()], {})
    moved = [change for change in changes if change.now != change.before]
    print(report.table(moved) if moved else f"guard: nothing has changed under Python {MINOR}")


def main() -> None:
    """Check, update, or count in a process of its own when told to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write bench/baseline.json anew and say what changed")
    parser.add_argument("--callgrind", action="store_true", help="count machine instructions too; needs valgrind")
    parser.add_argument("--count", metavar="LOOP", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--bare", nargs=3, metavar=("RUN", "LOOP", "JOBS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        del os.environ[name]  # settings of this shell are none of the fixed runs'
    if arguments.count:
        print(json.dumps(msgspec.to_builtins(count_loop(arguments.count))))
    elif arguments.bare:
        run, loop, jobs = arguments.bare
        runs.RUNS[run](loop, int(jobs))
    else:
        try:
            committed = baseline.read()
        except BadBaseline as error:
            print(f"guard: {error}", file=sys.stderr)
            sys.exit(2)
        if arguments.update:
            update(committed, with_callgrind=arguments.callgrind)
        else:
            sys.exit(check(committed, with_callgrind=arguments.callgrind))


if __name__ == "__main__":
    main()
