"""How fast do jobs get in: one by one, in batches, by many at once, from a thread, over HTTP?

No worker runs. The batched way is measured beside the floor's: a script that adds 500 packed jobs a call.

    python bench/submission.py [--quick] [--rounds N] [--only HTTP] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

BASE: Options = {"fsync": "everysec", "loop": "asyncio"}

QUESTION = Question(
    name="submission",
    asks="How fast do jobs get in?",
    cases=(
        Case("batched", "submission", {**BASE, "way": "batched"}, 200_000, 20_000, ("floor",)),
        Case("floor", "floor", {**BASE, "slots": 100}, 100_000, 10_000),
        Case("one by one", "submission", {**BASE, "way": "one-by-one"}, 6_000, 1_000),
        Case("100 at once", "submission", {**BASE, "way": "concurrent"}, 60_000, 10_000, ("one by one",)),
        Case("100 at once, trio", "submission", {**BASE, "loop": "trio", "way": "concurrent"}, 60_000, 0),
        Case("blocking, from a thread", "submission", {**BASE, "way": "blocking"}, 8_000, 1_000, ("one by one",)),
        Case("HTTP, 16 connections", "submission", {**BASE, "way": "http", "submitters": 16}, 10_000, 1_000),
        Case("HTTP, batches", "submission", {**BASE, "way": "http-batch", "submitters": 1}, 100_000, 10_000),
    ),
    figures=("submit_per_s", "producer_cpu_us_per_job", "server_cpu_us_per_job", "commands_per_job",
             "trips_per_job", "rss_mb", "lost", "duplicates"),
    compared=("submit_per_s",),
    plot=Plot(("submit_per_s",), log_y=True),
    targets=(Target("submission in batches, to the floor", "batched", 0.5, 0.8, "submit_per_s", "floor"),),
    notes="Over HTTP the producer's CPU is the client's alone, the API's own is not in it. The floor's server CPU is "
    "that of working the jobs off, and says nothing here. Batches of submit_many and of HTTP have 5,000 jobs.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
