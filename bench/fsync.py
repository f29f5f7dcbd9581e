"""What does it cost to have every job and every result on the disk: `appendfsync` no, everysec, always?

python bench/fsync.py [--quick] [--rounds N] [--only always] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

MODES = ("no", "everysec", "always")


def cases() -> tuple[Case, ...]:
    found = []
    for suffix, more in (("", {}), (", no results", {"no_results": True})):
        for fsync in MODES:
            options: Options = {"fsync": fsync, "loop": "asyncio", "slots": 100, **more}
            against = () if fsync == "no" else (f"no{suffix}",)
            found.append(Case(fsync + suffix, "worker", options, 100_000, 10_000, against))
    return tuple(found)


QUESTION = Question(
    name="fsync",
    asks="What does it cost to have every job and result on the disk?",
    cases=cases(),
    figures=("jobs_per_s", "submit_per_s", "cpu_us_per_job", "server_cpu_us_per_job", "commands_per_job",
             "trips_per_job", "run_p50_ms", "run_p99_ms", "rss_mb", "lost", "duplicates"),
    compared=("jobs_per_s", "submit_per_s", "server_cpu_us_per_job"),
    plot=Plot(("jobs_per_s", "submit_per_s")),
    targets=(
        Target("commands a job, with results", "everysec", 3.1, 3.1, "commands_per_job"),
        Target("commands a job, without results", "everysec, no results", 2.1, 2.1, "commands_per_job"),
        Target("round trips a job", "everysec", 0.02, 0.02, "trips_per_job"),
    ),
    notes="`no` is without a journal at all. The journal of the others is on the disk that is named below; one sync "
    "serves a whole batch.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
