"""Answers as the benchmarks' runner makes them, without any measuring."""

from measuring.figures import Round
from measuring.question import Case, Plot, Question, Target
from measuring.rounds import Answer, Row, Wish

WHERE: dict[str, object] = {
    "python": "3.11.7", "machine": "x86_64, 2 cores", "server": "Valkey 9.1.2", "commit": "abc1234", "cpu": "EPYC",
    "kernel": "Linux 6", "disk": "ext4 on /dev/vda",
}  # fmt: skip


def case(name: str, *against: str, x: float = 0.0, series: str = "", **more: int) -> Case:
    """Return a case of a thousand jobs, ten in a quick run."""
    return Case(name, "worker", {"loop": "asyncio", "slots": 100}, 1_000, 10, against, x=x, series=series, **more)


def question(
    *cases: Case, plot: Plot | None = None, targets: tuple[Target, ...] = (), as_cost: bool = False
) -> Question:
    """Return a question about rates and latencies."""
    return Question(
        name="speed", asks="Is a < b & c?", cases=cases, figures=("jobs_per_s", "p99_ms", "lost"),
        plot=plot or Plot(("jobs_per_s",)), targets=targets, as_cost=as_cost, notes="Read with care.",
    )  # fmt: skip


def answer(asked: Question, rounds: dict[str, list[Round]]) -> Answer:
    """Return the answer that so many rounds of each case are."""
    rows = [Row(each, each.jobs, rounds.get(each.name, [])) for each in asked.cases]
    return Answer(asked, Wish(rounds=3), WHERE, "2026-01-01 00:00:00 UTC", [0.1, 0.2, 0.3], rows, [0.4, 0.5, 0.6], 12.0)


def rates(*values: float) -> list[Round]:
    """Return a round for each rate."""
    return [{"jobs_per_s": value, "p99_ms": 1000 / value, "lost": 0} for value in values]
