"""How long does a lone job take from another process's submit to the start of its handler, on an idle engine?

On each loop; and with `appendfsync always` on a real disk, where the job is on the disk before it is answered.

    python bench/latency.py [--quick] [--rounds N] [--only always] ...
"""

from measuring.asking import ask
from measuring.question import Case, Plot, Question, Target

LOOPS = ("asyncio", "uvloop", "trio")


def cases() -> tuple[Case, ...]:
    found = []
    for fsync in ("everysec", "always"):
        for loop in LOOPS:
            quick_jobs = 100 if loop == "asyncio" or (loop == "trio" and fsync == "everysec") else 0
            found.append(
                Case(f"{loop}, {fsync}", "latency", {"fsync": fsync, "loop": loop, "slots": 100}, 500, quick_jobs)
            )
    return tuple(found)


QUESTION = Question(
    name="latency",
    asks="How long does a lone job take from submit to its handler's start, on an idle engine?",
    cases=cases(),
    figures=("p50_ms", "p99_ms", "cpu_us_per_job", "server_cpu_us_per_job", "rss_mb", "lost", "duplicates"),
    compared=(),
    plot=Plot(("p50_ms", "p99_ms")),
    rounds=2,
    targets=(
        Target("idle latency, p50, ms", "asyncio, everysec", 1.2, 0.7, "p50_ms"),
        Target("idle latency, p99, ms", "asyncio, everysec", 3.0, 1.25, "p99_ms"),
    ),
    notes="The producer submits with `.sync` from a process of its own, every 5 to 11 ms; CPU is that of these pauses, "
    "too. The journal is on the disk that is named below.",
)

if __name__ == "__main__":
    ask(QUESTION)
