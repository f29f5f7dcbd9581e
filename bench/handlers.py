"""What do handlers of each kind reach: a no-op, waits of 1 and 10 ms, 1 ms of CPU in processes, 1 ms in threads?

The first three run in the event loop in 100 slots, beside the floor; threads in 32 slots, processes in one a core.

    python bench/handlers.py [--quick] [--rounds N] [--only ms] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

BASE: Options = {"fsync": "everysec", "loop": "asyncio", "slots": 100}
#: Of threads and processes the slots are the settings' own: 32, and one a core.
OTHER: Options = {"fsync": "everysec", "loop": "asyncio"}
ASYNC = {"no-op": (0, 100_000, 10_000), "waits 1 ms": (1, 40_000, 8_000), "waits 10 ms": (10, 15_000, 3_000)}


def cases() -> tuple[Case, ...]:
    found = []
    for name, (sleep_ms, jobs, quick_jobs) in ASYNC.items():
        options: Options = {**BASE, "sleep_ms": sleep_ms}
        floor = f"floor, {name}"
        usual = f"usual floor, {name}"
        found.append(Case(name, "worker", options, jobs, quick_jobs, (usual, floor)))
        found.append(Case(floor, "floor", options, jobs, quick_jobs))
        found.append(Case(usual, "floor", {**options, "own_keys": True}, jobs, quick_jobs))
    trio: Options = {**BASE, "loop": "trio", "sleep_ms": 1}
    found.append(Case("waits 1 ms, trio", "worker", trio, 30_000, 0, ("waits 1 ms", "floor, waits 1 ms, trio")))
    found.append(Case("floor, waits 1 ms, trio", "floor", trio, 30_000, 0))
    found.append(Case("CPU 1 ms, processes", "worker", {**OTHER, "handler": "process"}, 2_000, 500))
    found.append(Case("sync 1 ms, threads", "worker", {**OTHER, "handler": "thread", "sleep_ms": 1}, 10_000, 2_000))
    return tuple(found)


QUESTION = Question(
    name="handlers",
    asks="What do handlers of each kind reach?",
    cases=cases(),
    figures=("jobs_per_s", "cpu_us_per_job", "server_cpu_us_per_job", "run_p50_ms", "run_p99_ms", "rss_mb", "lost",
             "duplicates"),
    compared=("jobs_per_s", "cpu_us_per_job"),
    plot=Plot(("jobs_per_s",), log_y=True),
    targets=(
        Target("waits of 1 ms, to the usual floor", "waits 1 ms", 0.6, 0.85, against="usual floor, waits 1 ms"),
        Target("waits of 1 ms, to the floor", "waits 1 ms", 0.6, 0.85, against="floor, waits 1 ms"),
    ),
    notes="The worker's CPU is its own process's: what child processes use is not in it. The rate of processes counts "
    "from the first outcome, when they had started.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
