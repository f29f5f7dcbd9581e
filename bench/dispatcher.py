"""How many no-op jobs a second does the in-process Dispatcher run, against a bare task group and a semaphore?

The Dispatcher does more for it: timeouts, tickets, statistics; and with sinks it writes every outcome down.

    python bench/dispatcher.py [--quick] [--rounds N] [--only sink] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question, Target

LOOPS = ("asyncio", "uvloop", "trio")
SINKS = {"FileSink": "file", "FileSink, always": "file-always", "RedisSink": "redis"}


def cases() -> tuple[Case, ...]:
    found = []
    for loop in LOOPS:
        options: Options = {"loop": loop, "slots": 100}
        bare, quick = f"bare, {loop}", int(loop != "uvloop")
        found.append(Case(f"dispatcher, {loop}", "dispatch", options, 200_000, quick * 20_000, (bare,)))
        found.append(Case(bare, "dispatch", {**options, "way": "bare"}, 20_000, quick * 4_000))
    for name, sink in SINKS.items():
        written: Options = {"loop": "asyncio", "slots": 100, "sink": sink}
        if sink == "redis":
            written["fsync"] = "everysec"
        against = ("dispatcher, asyncio",)
        found.append(Case(f"with {name}", "dispatch", written, 100_000, 10_000, against))
    return tuple(found)


QUESTION = Question(
    name="dispatcher",
    asks="How many no-op jobs a second does the in-process Dispatcher run?",
    cases=cases(),
    figures=("jobs_per_s", "cpu_us_per_job", "rss_mb", "lost", "duplicates"),
    compared=("jobs_per_s", "cpu_us_per_job"),
    plot=Plot(("jobs_per_s",)),
    targets=(
        Target("Dispatcher to a bare task group, asyncio", "dispatcher, asyncio", 2, 5, against="bare, asyncio"),
        Target("Dispatcher to a bare task group, trio", "dispatcher, trio", 2, 5, against="bare, trio"),
    ),
    notes="The bare way runs a tenth of the jobs, all of which it holds at once. With a sink the time ends when every "
    "outcome is written: to a file, synced each second or (always) before it counts, or to a server's stream. fsync is "
    "that server's.",
)

if __name__ == "__main__":
    ask(QUESTION)
