"""How many records a second does the async buffered file write, without syncing, each second, and always?

Records of 100 bytes, counted when they are written as durably as the mode promises.

    python bench/files.py [--quick] [--rounds N] [--only always] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question

ONE: Options = {"loop": "asyncio", "writers": 1}
MANY: Options = {"loop": "asyncio", "writers": 100}
PLAIN = "async file, a hop for each"

QUESTION = Question(
    name="files",
    asks="How many records a second does the async buffered file write?",
    cases=(
        Case("1 writer, never", "filing", {**ONE, "sync": "never"}, 200_000, 20_000, (PLAIN,)),
        Case("1 writer, interval", "filing", {**ONE, "sync": "interval"}, 200_000, 0, (PLAIN,)),
        Case("1 writer, always", "filing", {**ONE, "sync": "always"}, 200_000, 20_000, (PLAIN,)),
        Case("100 writers, interval", "filing", {**MANY, "sync": "interval"}, 200_000, 0, (PLAIN,)),
        Case("100 writers, always", "filing", {**MANY, "sync": "always"}, 200_000, 20_000, (PLAIN,)),
        Case("100 writers, trio", "filing", {**MANY, "sync": "interval", "loop": "trio"}, 200_000, 0),
        Case("batches of 100, never", "filing", {**ONE, "sync": "never", "batch": 100}, 2_000_000, 0),
        Case("batches of 100, always", "filing", {**ONE, "sync": "always", "batch": 100}, 1_000_000, 100_000),
        Case(PLAIN, "filing", {**ONE, "plain": True}, 10_000, 2_000),
    ),
    figures=("records_per_s", "mb_per_s", "cpu_us_per_record", "fsyncs", "rss_mb", "lost", "duplicates"),
    compared=("records_per_s", "cpu_us_per_record"),
    rounds=2,
    plot=Plot(("records_per_s",), log_y=True),
    notes="never: synced when the file is closed. interval: within a second. always: before a record counts; "
    "one sync serves a whole gathered write. The async file is unbuffered and never synced.",
)

if __name__ == "__main__":
    ask(QUESTION)
