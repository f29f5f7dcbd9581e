"""The demo's figures in words, for a terminal, and as the one JSON document of `--json`.

Pure: text out, nothing printed. File names are shown so that no character in them can steer a terminal.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from .summary import SHOWN_COUNT, Summary


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What `headrace demo --json` prints; latencies are from submission to the handler's end, null when none ran."""

    files: int
    settled: int
    failed: int
    lost: int
    jobs_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    outcome_log: str


class Setting(msgspec.Struct, frozen=True):
    """Where the figures come from.

    Attributes:
        root: The folder that was indexed, with a separator at its end.
        loop: The event loop.
        processes: Child processes that parsed.
        server: What kept the jobs, in a word or two.
        outcome_log: Path of the outcome log.
    """

    root: str
    loop: str
    processes: int
    server: str
    outcome_log: str


_INDENT: Final = "  "


def document(summary: Summary, outcome_log: str) -> str:
    """Return the JSON document, on one line."""
    fields = {name: getattr(summary, name) for name in Document.__struct_fields__ if name != "outcome_log"}
    return msgspec.json.encode(Document(**fields, outcome_log=shown(outcome_log))).decode()


def render(summary: Summary, setting: Setting) -> str:
    """Return the summary for people, without a line break at its end."""
    return "\n".join(_lines(summary, setting))


def _lines(summary: Summary, setting: Setting) -> Iterator[str]:
    yield (
        f"{summary.files:,} files indexed in {summary.elapsed_s:.2f} s by {_count(setting.processes, 'process', 'es')} "
        f"({setting.loop}, {setting.server}): {summary.jobs_per_s:,.0f} jobs/s"
    )
    yield f"{_INDENT}settled {summary.settled:,}   failed {summary.failed:,}   lost {summary.lost:,}"
    yield f"{_INDENT}{summary.lines:,} lines, {summary.size_bytes / 1e6:,.1f} MB in {shown(setting.root)}"
    latency, handler = ((summary.p50_ms, summary.p99_ms), (summary.run_p50_ms, summary.run_p99_ms))
    yield f"{_INDENT}latency p50 {_ms(latency[0])}, p99 {_ms(latency[1])} (from submission, all at once, to the end)"
    yield f"{_INDENT}handler p50 {_ms(handler[0])}, p99 {_ms(handler[1])} (its own run alone)"
    imported = [(name, f"{count:,} files") for name, count in summary.most_imported]
    yield from _table("most imported", imported, len(imported))
    slowest = [(_below(path, setting.root), _ms(run_ms)) for path, run_ms in summary.slowest]
    yield from _table("slowest files", slowest, len(slowest))
    problems = [(_below(path, setting.root), why) for path, why in summary.problems]
    yield from _table("read, but not understood", problems[:SHOWN_COUNT], len(problems))
    failures = [(_below(path, setting.root), why) for path, why in summary.failures]
    yield from _table("failed", failures[:SHOWN_COUNT], len(failures))
    yield f"outcome log, a line for each job: {shown(setting.outcome_log)}"


def _table(title: str, rows: Sequence[tuple[str, str]], count: int) -> Iterator[str]:
    if not rows:
        return
    yield f"{title}:" if count == len(rows) else f"{title} ({len(rows)} of {count:,}):"
    width = max(len(shown(name)) for name, _ in rows)
    for name, what in rows:
        yield f"{_INDENT}{shown(name):<{width}}  {shown(what)}"


def _below(path: str, root: str) -> str:
    return path.removeprefix(root)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"


def _count(number: int, noun: str, plural: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def shown(text: str) -> str:
    """Return text with everything that is no printable character as an escape."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
