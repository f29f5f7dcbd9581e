"""What do 2 and 4 worker processes reach, against one?

Each is a `headrace run` of its own, with 100 slots; server and workers share the machine's cores.

    python bench/processes.py [--quick] [--rounds N] [--only no-op] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

BASE: Options = {"fsync": "everysec", "loop": "asyncio", "slots": 100}
KINDS: dict[str, tuple[Options, int, int]] = {
    "no-op": ({}, 100_000, 10_000),
    "waits 1 ms": ({"sleep": True}, 60_000, 10_000),
}
PROCESSES = (1, 2, 4)


def cases() -> tuple[Case, ...]:
    found = []
    for kind, (more, jobs, quick_jobs) in KINDS.items():
        for processes in PROCESSES:
            options: Options = {**BASE, **more, "processes": processes}
            against = (f"{kind}, 1 worker",) if processes > 1 else ()
            name = f"{kind}, {processes} worker{'s' if processes > 1 else ''}"
            quick = quick_jobs if processes < PROCESSES[-1] else 0
            found.append(Case(name, "fleet", options, jobs, quick, against, x=processes, series=kind))
    return tuple(found)


QUESTION = Question(
    name="processes",
    asks="What do 2 and 4 worker processes reach, against one?",
    cases=cases(),
    figures=("jobs_per_s", "cpu_us_per_job", "server_cpu_us_per_job", "commands_per_job", "trips_per_job", "rss_mb",
             "lost", "duplicates"),
    compared=("jobs_per_s", "cpu_us_per_job"),
    plot=Plot(("jobs_per_s",)),
    targets=(Target("two workers to one, no-op", "no-op, 2 workers", 1.0, 1.3, against="no-op, 1 worker"),),
    notes="From the end of a pause, with all workers there, until the server holds no job. CPU is that of all workers "
    "together, RSS that of the largest. Results are on.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
