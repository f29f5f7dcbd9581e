"""How does the number of slots change the rate, with handlers that do nothing and with handlers that wait 1 ms?

A handler that waits 1 ms runs at most 1,000 times a second in a slot, so few slots bound the rate; many must not.

    python bench/slots.py [--quick] [--rounds N] [--only no-op] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question

#: slots -> jobs of a round of waiting handlers, full and quick: about a second and a half, and a third of it.
WAITING = {1: (1_500, 300), 10: (12_000, 3_000), 100: (40_000, 8_000), 1_000: (60_000, 0), 10_000: (60_000, 8_000)}


def cases() -> tuple[Case, ...]:
    found = []
    for slots, (jobs, quick_jobs) in WAITING.items():
        options: Options = {"fsync": "everysec", "loop": "asyncio", "slots": slots}
        noop_quick = 10_000 if quick_jobs else 0
        found.append(Case(f"no-op, {slots:,}", "worker", options, 100_000, noop_quick, x=slots, series="no-op"))
        waits: Options = {**options, "sleep_ms": 1}
        found.append(Case(f"1 ms, {slots:,}", "worker", waits, jobs, quick_jobs, x=slots, series="waits 1 ms"))
    return tuple(found)


QUESTION = Question(
    name="slots",
    asks="How does the number of slots change the rate?",
    cases=cases(),
    figures=("jobs_per_s", "cpu_us_per_job", "server_cpu_us_per_job", "run_p50_ms", "run_p99_ms", "rss_mb", "lost",
             "duplicates"),
    rounds=2,
    plot=Plot(("jobs_per_s",), "lines", "slots"),
    notes="Results are on. The handler's own time counts in the latencies: a wait of 1 ms takes longer than 1 ms where "
    "thousands of timers end at once.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
