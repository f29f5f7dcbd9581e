"""What do results, retries, timeouts, unique keys and waiting for results cost a job?

The plain job keeps no result, has no timeout, one try and no key; every other case turns one thing on. Of a handler
means said once, by the decorator; of each job means said by `.options(...)` at every submission.

    python bench/features.py [--quick] [--rounds N] [--only timeout] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

BASE: Options = {"fsync": "everysec", "loop": "asyncio", "slots": 100}
PLAIN: Options = {**BASE, "no_results": True, "timeout": "0", "tries": 1}
ON: dict[str, Options] = {
    "results": {"no_results": False},
    "timeout, of the handler": {"timeout": "30s"},
    "timeout, of each job": {"timeout": "30s", "per_job": True},
    "retries, of the handler": {"tries": 5},
    "retries, of each job": {"tries": 5, "per_job": True},
    "unique key": {"unique": True},
}
JOBS, QUICK_JOBS = 100_000, 10_000


def cases() -> tuple[Case, ...]:
    found = [Case("plain", "worker", PLAIN, JOBS, QUICK_JOBS)]
    for name, options in ON.items():
        quick_jobs = 0 if name.endswith("handler") else QUICK_JOBS
        found.append(Case(name, "worker", {**PLAIN, **options}, JOBS, quick_jobs, ("plain",)))
    found.append(Case("submitted, not waited for", "results", BASE, 40_000, QUICK_JOBS))
    against, waited = ("submitted, not waited for",), {**BASE, "wait": True}
    for name, way in (("result waited for", "each"), ("results read together", "bulk")):
        found.append(Case(name, "results", {**waited, "way": way}, 40_000, QUICK_JOBS, against))
    return tuple(found)


def target(name: str, against: str = "plain") -> Target:
    return Target(f"{name}: share of the rate that stays", name, 0.85, 0.95, against=against)


QUESTION = Question(
    name="features",
    asks="What do results, retries, timeouts, unique keys and waiting cost a job?",
    cases=cases(),
    figures=("jobs_per_s", "submit_per_s", "cpu_us_per_job", "server_cpu_us_per_job", "commands_per_job",
             "trips_per_job", "producer_cpu_us_per_job", "rss_mb", "lost", "duplicates"),
    compared=("jobs_per_s", "cpu_us_per_job", "server_cpu_us_per_job"),
    plot=Plot(("jobs_per_s",)),
    rounds=3,
    targets=(*map(target, ON), target("result waited for", "submitted, not waited for"),
             target("results read together", "submitted, not waited for")),
    as_cost=True,
    notes="Costs are in jobs/s, CPU as ratios. The last three have a producer process that submits while the worker "
    "works: rates from the first submission to the last settling, or to the last of all results, which 500 coroutines "
    "wait for at once or one reads; a rate of theirs is not one of the others'.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
