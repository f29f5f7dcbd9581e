"""How long does a lone job take from submit to its result in the submitter's hands, on an idle engine?

Worker and submitter are processes of their own, as a web server and its workers are; the handler does nothing.

    python bench/waiting.py [--quick] [--rounds N] [--only trio] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question

BASE: Options = {"fsync": "everysec", "slots": 100}

QUESTION = Question(
    name="waiting",
    asks="How long does a lone job take from submit to its result, on an idle engine?",
    cases=(
        Case("await, asyncio", "waiting", {**BASE, "loop": "asyncio"}, 300, 60),
        Case("await, uvloop", "waiting", {**BASE, "loop": "uvloop"}, 300, 0),
        Case("await, trio", "waiting", {**BASE, "loop": "trio"}, 300, 60),
        Case("blocking, from a thread", "waiting", {**BASE, "blocking": True}, 300, 60),
        Case("await, asyncio, always", "waiting", {**BASE, "fsync": "always", "loop": "asyncio"}, 300, 0),
    ),
    figures=("p50_ms", "p99_ms", "cpu_us_per_job", "server_cpu_us_per_job", "producer_cpu_us_per_job", "rss_mb"),
    compared=(),
    plot=Plot(("p50_ms", "p99_ms")),
    rounds=2,
    notes="The loop is the submitter's; the worker's is asyncio. CPU is that of the pauses, too. RSS is the "
    "submitter's. Each result is compared with what is right, so a lost job would end the run.",
)

if __name__ == "__main__":
    ask(QUESTION)
