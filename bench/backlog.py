"""Does a worker's rate, its fetching or its memory depend on how much is queued: 10 thousand to 10 million?

python bench/backlog.py [--quick] [--rounds N] [--only 10,000,000] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

#: queued -> jobs measured in a full and in a quick round, most rounds, MB of memory.
BACKLOGS = {
    10_000: (200_000, 20_000, 0, 0),
    100_000: (200_000, 60_000, 0, 0),
    1_000_000: (200_000, 0, 0, 800),
    10_000_000: (200_000, 0, 2, 4_000),
}


def cases() -> tuple[Case, ...]:
    found = []
    for queued, (jobs, quick_jobs, rounds_max, needs_mb) in BACKLOGS.items():
        options: Options = {"fsync": "no", "loop": "asyncio", "slots": 100, "queued": queued}
        against = () if queued == min(BACKLOGS) else ("10,000 queued",)
        name = f"{queued:,} queued"
        found.append(Case(name, "backlog", options, jobs, quick_jobs, against, rounds_max, needs_mb, queued, "worker"))
    return tuple(found)


QUESTION = Question(
    name="backlog",
    asks="Does a worker depend on how much is queued?",
    cases=cases(),
    figures=("jobs_per_s", "fetch_p50_ms", "fetch_p99_ms", "fetch_jobs", "rss_mb", "rss_growth_mb", "submit_per_s",
             "server_rss_mb", "cpu_us_per_job", "server_cpu_us_per_job", "duplicates"),
    compared=("jobs_per_s", "fetch_p50_ms", "rss_mb"),
    plot=Plot(("jobs_per_s",), "lines", "jobs queued"),
    rounds=2,
    targets=(
        Target("1 million queued, growth of the worker's memory, MB", "1,000,000 queued", 20, 2, "rss_growth_mb"),
        Target("10 million queued, to 10 thousand", "10,000,000 queued", 0.9, 0.97, against="10,000 queued"),
    ),
    notes="The rate is that of the first 200,000 jobs of each backlog, not of draining it; 10,000 are filled in ten "
    "times. The first 3,000 of each fill warm the worker up and do not count. Growth is from then to the most of the "
    "run. The jobs beyond those measured are still queued at the end, so nothing is said of losses; `submitted/s` "
    "includes the start of the processes that submit. There is no journal: 10 million jobs would have it rewritten.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
