"""What do submit, fetch and settle cost alone, in batches of 500 and without a pool?

python bench/broker.py [--quick] [--rounds N] [--only always] ...
"""

from measuring.asking import ask
from measuring.question import Case, Plot, Question

MODES = {"no": 0, "everysec": 20_000, "always": 20_000}

QUESTION = Question(
    name="broker",
    asks="What do submit, fetch and settle cost alone?",
    cases=tuple(Case(fsync, "verbs", {"fsync": fsync}, 100_000, quick_jobs) for fsync, quick_jobs in MODES.items()),
    figures=("fetch_and_settle_per_s", "publish_per_s", "fetch_per_s", "settle_per_s", "fetch_and_settle_cpu_us",
             "publish_cpu_us", "fetch_cpu_us", "settle_cpu_us", "rss_mb"),
    compared=(),
    plot=Plot(("publish_per_s", "fetch_per_s", "settle_per_s", "fetch_and_settle_per_s")),
    notes="CPU is this process's, in us a job. Each job has a body of 30 to 40 bytes and a result of 60.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
