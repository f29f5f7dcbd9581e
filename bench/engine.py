"""How much of the possible does the engine reach?

No-op jobs with results, statistics and a registration on, beside the floor of the same loop in the same round. The
floor is what no engine on this stack can avoid; the usual floor is the same with a key for each result, which headrace
does without. See probes/floor.py.

    python bench/engine.py [--quick] [--rounds N] [--only asyncio] ...
    python bench/engine.py --one ... measures the engine once and prints one line of JSON; see probes/worker.py.
"""

import sys

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

LOOPS = ("asyncio", "uvloop", "trio")


def cases() -> tuple[Case, ...]:
    found = []
    for loop in LOOPS:
        options: Options = {"fsync": "everysec", "loop": loop, "slots": 100}
        against = (f"usual floor, {loop}", f"floor, {loop}", *(("engine, asyncio",) if loop != "asyncio" else ()))
        quick_jobs = 20_000 if loop != "uvloop" else 0
        found.append(Case(f"engine, {loop}", "worker", options, 100_000, quick_jobs, against))
        found.append(Case(f"floor, {loop}", "floor", options, 100_000, quick_jobs))
        found.append(Case(f"usual floor, {loop}", "floor", {**options, "own_keys": True}, 100_000, quick_jobs))
    return tuple(found)


QUESTION = Question(
    name="engine",
    asks="How much of the possible does the engine reach?",
    cases=cases(),
    figures=("jobs_per_s", "submit_per_s", "cpu_us_per_job", "server_cpu_us_per_job", "commands_per_job",
             "trips_per_job", "run_p50_ms", "run_p99_ms", "rss_mb", "lost", "duplicates"),
    compared=("jobs_per_s", "submit_per_s", "cpu_us_per_job", "server_cpu_us_per_job"),
    plot=Plot(("jobs_per_s",)),
    rounds=3,
    targets=(
        Target("no-op jobs, asyncio, to the usual floor", "engine, asyncio", 0.5, 0.8, against="usual floor, asyncio"),
        Target("no-op jobs, asyncio, to the floor", "engine, asyncio", 0.5, 0.8, against="floor, asyncio"),
        Target("no-op jobs, trio to asyncio", "engine, trio", 0.8, 0.95, against="engine, asyncio"),
        Target("submission in batches, to the floor", "engine, asyncio", 0.5, 0.8, "submit_per_s", "floor, asyncio"),
    ),
    notes="Counted when the last job is settled on the server. A no-op job measures the engine, not your work.",
)  # fmt: skip

if __name__ == "__main__":
    if "--one" in sys.argv[1:]:
        from probes.worker import main

        sys.argv.remove("--one")
        main()
    else:
        ask(QUESTION)
