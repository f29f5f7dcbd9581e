"""How does the size of a job change the rate, from 10 bytes to 1 MiB of text, beside the floor at the same size?

python bench/payload.py [--quick] [--rounds N] [--only KiB] ...
"""

from measuring.asking import ask
from measuring.question import Case, Options, Plot, Question

KIB = 1024
#: bytes -> name, jobs of a full and of a quick round; of the largest together 300 MB.
SIZES = {
    10: ("10 B", 100_000, 10_000),
    100: ("100 B", 100_000, 0),
    KIB: ("1 KiB", 80_000, 8_000),
    10 * KIB: ("10 KiB", 20_000, 0),
    100 * KIB: ("100 KiB", 3_000, 0),
    KIB * KIB: ("1 MiB", 300, 60),
}


def cases() -> tuple[Case, ...]:
    found = []
    for size, (name, jobs, quick_jobs) in SIZES.items():
        options: Options = {"fsync": "everysec", "loop": "asyncio", "slots": 100, "payload": size}
        floor = f"floor, {name}"
        found.append(Case(f"engine, {name}", "worker", options, jobs, quick_jobs, (floor,), x=size, series="engine"))
        found.append(Case(floor, "floor", options, jobs, quick_jobs, x=size, series="floor"))
    return tuple(found)


QUESTION = Question(
    name="payload",
    asks="How does the size of a job change the rate?",
    cases=cases(),
    figures=("jobs_per_s", "mb_per_s", "submit_per_s", "cpu_us_per_job", "server_cpu_us_per_job", "run_p50_ms",
             "run_p99_ms", "rss_mb", "lost", "duplicates"),
    compared=("jobs_per_s", "submit_per_s", "cpu_us_per_job"),
    rounds=2,
    plot=Plot(("jobs_per_s",), "lines", "bytes of text in each job", log_y=True),
    notes="MB/s counts the text alone, on its way from the server to the handler. Results are on, and empty.",
)  # fmt: skip

if __name__ == "__main__":
    ask(QUESTION)
