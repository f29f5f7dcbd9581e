"""Figures over rounds: medians, spreads, and ratios that are taken within a round.

FIGURES says of each figure what it is called, how many digits are worth showing, whether more of it is better, and
whether its worst round is shown: of jobs that were lost a median would hide all but the worst half.
"""

import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

Round = dict[str, float]


class Figure(NamedTuple):
    """How a figure is shown.

    Attributes:
        title: Its name, with its unit.
        digits: Digits behind the point.
        rises: Whether more is better.
        worst: Whether the most of all rounds is shown, and not their median; it is to be 0.
    """

    title: str
    digits: int = 0
    rises: bool = False
    worst: bool = False


FIGURES: Final[dict[str, Figure]] = {
    "jobs_per_s": Figure("jobs/s", rises=True),
    "submit_per_s": Figure("submitted/s", rises=True),
    "mb_per_s": Figure("MB/s", 1, rises=True),
    "cpu_us_per_record": Figure("CPU us/record", 2),
    "records_per_s": Figure("records/s", rises=True),
    "cpu_us_per_job": Figure("CPU us/job, worker", 1),
    "server_cpu_us_per_job": Figure("CPU us/job, server", 1),
    "api_cpu_us_per_job": Figure("CPU us/job, API", 1),
    "producer_cpu_us_per_job": Figure("CPU us/job, producer", 1),
    "commands_per_job": Figure("commands/job", 3),
    "trips_per_job": Figure("round trips/job", 4),
    "p50_ms": Figure("p50 ms", 2),
    "p99_ms": Figure("p99 ms", 2),
    "run_p50_ms": Figure("run p50 ms", 2),
    "run_p99_ms": Figure("run p99 ms", 2),
    "fetch_p50_ms": Figure("fetch p50 ms", 2),
    "fetch_p99_ms": Figure("fetch p99 ms", 2),
    "fetch_jobs": Figure("jobs/fetch"),
    "rss_mb": Figure("RSS MB"),
    "rss_growth_mb": Figure("RSS growth MB", 1),
    "server_rss_mb": Figure("server RSS MB"),
    "fsyncs": Figure("fsyncs"),
    "lost": Figure("lost", worst=True),
    "duplicates": Figure("duplicates", worst=True),
    "failed": Figure("failed", worst=True),
    "publish_per_s": Figure("publish/s", rises=True),
    "fetch_per_s": Figure("fetch/s", rises=True),
    "settle_per_s": Figure("settle/s", rises=True),
    "fetch_and_settle_per_s": Figure("fetch and settle/s", rises=True),
    "publish_cpu_us": Figure("CPU us, publish", 2),
    "fetch_cpu_us": Figure("CPU us, fetch", 2),
    "settle_cpu_us": Figure("CPU us, settle", 2),
    "fetch_and_settle_cpu_us": Figure("CPU us, fetch and settle", 2),
}


def median(rounds: Sequence[Round], name: str) -> float:
    """Return the median of one figure over rounds."""
    return statistics.median(figures[name] for figures in rounds)


def middle(rounds: Sequence[Round], name: str) -> float:
    """Return what a table shows of one figure: its median, or the worst of all rounds where that is what counts."""
    return max(figures[name] for figures in rounds) if FIGURES[name].worst else median(rounds, name)


def unclean(rounds: Sequence[Round]) -> list[str]:
    """Return what should be 0 and is not, as "3 lost in round 2"; nothing where all went well."""
    wanted = [name for name, figure in FIGURES.items() if figure.worst]
    found = [(number, name, figures.get(name, 0)) for number, figures in enumerate(rounds, 1) for name in wanted]
    return [f"{count:,.0f} {FIGURES[name].title} in round {number}" for number, name, count in found if count]


def ratios(rounds: Sequence[Round], others: Sequence[Round], name: str) -> list[float]:
    """Return one figure's ratio to the other's of the same round, for each round that both have."""
    pairs = zip(rounds, others, strict=False)
    return [mine[name] / theirs[name] for mine, theirs in pairs if theirs.get(name) and name in mine]


def ratio(rounds: Sequence[Round], floor: Sequence[Round], name: str) -> float:
    """Return the median of one figure's ratio to the floor's of the same round: a noisy minute hits both."""
    return statistics.median(mine[name] / theirs[name] for mine, theirs in zip(rounds, floor, strict=True))


def spread(rounds: Sequence[Round], name: str, digits: int = 0) -> str:
    """Return "lowest..highest" of one figure over rounds."""
    values = [figures[name] for figures in rounds]
    return f"{min(values):,.{digits}f}..{max(values):,.{digits}f}"


def shown(name: str, value: float) -> str:
    """Return a figure's value as a table shows it."""
    return f"{value:,.{FIGURES[name].digits}f}"
