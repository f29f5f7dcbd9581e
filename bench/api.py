"""How fast does the API take jobs in: single ones from many connections, each in the queue when answered, and batches?

Not called http.py: that name is the standard library's, and the folder of the scripts comes first where modules are
looked for.

    python bench/api.py [--quick] [--rounds N] [--only 64] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

SINGLE: Options = {"fsync": "everysec", "way": "single"}
BATCH: Options = {"fsync": "everysec", "way": "batch"}

QUESTION = Question(
    name="api",
    asks="How fast does the API take jobs in, by one process on one core?",
    cases=(
        Case("1 connection", "api", {**SINGLE, "connections": 1}, 5_000),
        Case("64 connections", "api", {**SINGLE, "connections": 64}, 60_000, 6_000),
        Case("256 connections", "api", {**SINGLE, "connections": 256}, 60_000),
        Case("64 connections, always", "api", {**SINGLE, "connections": 64, "fsync": "always"}, 30_000),
        Case("batch", "api", BATCH, 300_000, 30_000, ("submit_many",)),
        Case("batch with a key", "api", {**BATCH, "keyed": True}, 100_000, 10_000, ("submit_many",)),
        Case("submit_many", "api", {"fsync": "everysec", "way": "floor"}, 300_000, 30_000),
    ),
    figures=("submit_per_s", "p50_ms", "p99_ms", "api_cpu_us_per_job", "server_cpu_us_per_job", "trips_per_job",
             "rss_mb", "rss_growth_mb", "lost", "duplicates"),
    compared=("submit_per_s",),
    plot=Plot(("submit_per_s",), log_y=True),
    targets=(
        Target("single submissions/s, 64 connections", "64 connections", 5_000, 8_000, "submit_per_s"),
        Target("their p99, ms", "64 connections", 30, 15, "p99_ms"),
        Target("a batch, to submit_many", "batch", 0.4, 0.6, "submit_per_s", "submit_many"),
    ),
    notes="The API's process has one core; the load, raw sockets in a process of its own, and the server share the "
    "others. A job counts once it is answered, and it is answered once the server has it; with `always`, once it is on "
    "the disk. A batch is one request, streamed in pieces of 5,000 lines; with a key it has an Idempotency-Key.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
