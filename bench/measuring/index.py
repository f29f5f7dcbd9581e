"""The index of a folder of results: each question with its answer's page, and every promise with what came of it.

Made from the result files alone, so it is right whoever wrote them; those of other commits say so.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

#: What is kept of peers/run.py; under other names lies what somebody had a look at.
PEERS = ("peers", "peers-fastest", "peers-slower", "peers-loss")
WHERE = ("machine", "cpu", "kernel", "disk", "python", "server")


def write_index(folder: pathlib.Path, names: Sequence[str], failed: Sequence[str]) -> pathlib.Path:
    """Write README.md into a folder of results and return its path.

    Args:
        folder: The folder.
        names: All questions, in their order.
        failed: Those that failed just now; what they left before is not shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "README.md"
    path.write_text(page(folder, names, failed), encoding="utf-8")
    return path


def page(folder: pathlib.Path, names: Sequence[str], failed: Sequence[str]) -> str:
    """Return the index of a folder of results; see write_index."""
    paths = {name: folder / f"{name}.json" for name in names if name not in failed}
    records = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    return "\n\n".join(_parts(folder, records, failed)) + "\n"


def _parts(folder: pathlib.Path, records: dict[str, Any], failed: Sequence[str]) -> list[str]:
    parts = ["# Results", "Written by `bench/run.py`; each page has its settings, and NAME.json every round."]
    parts += dict.fromkeys(_where(record) for record in records.values())
    lines = ["| question | asks | rounds | began | commit | load before, after |", "|---|---|---:|---|---|---|"]
    for name, record in records.items():
        load = f"{record['load_before'][0]:g}, {record['load_after'][0]:g}"
        rounds = f"{record['rounds']}{', quick' if record['quick'] else ''}"
        cells = [f"[{name}]({name}.md)", record["asks"], rounds, record["began_at"], record["where"]["commit"], load]
        lines.append("| " + " | ".join(cells) + " |")
    parts.append("\n".join(lines))
    if beside := _peers(folder):
        parts.append(beside)
    if failed:
        parts.append(f"Failed: {', '.join(failed)}.")
    verdicts = [(name, verdict) for name, record in records.items() for verdict in record["verdicts"]]
    if verdicts:
        lines = ["| promise | question | must | then | measured | |", "|---|---|---:|---:|---:|---|"]
        for name, verdict in verdicts:
            figures = " | ".join(f"{verdict[key]:.3g}" for key in ("must", "then", "measured"))
            lines.append(f"| {verdict['what']} | {name} | {figures} | {verdict['word']} |")
        parts.append("\n".join(lines))
    return parts


def _peers(folder: pathlib.Path) -> str:
    """Return the table of pages with other engines beside headrace; empty where there are none."""
    lines = [
        "| beside other engines | rows | rounds | scale | fsync | commit | load before |",
        "|---|---:|---:|---:|---|---|---|",
    ]
    for path in (folder / f"{name}.json" for name in PEERS):
        if not path.exists():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        where, rows = found["where"], len({record["row"] for record in found["records"]})
        cells = [where.get("rounds", 1), where["scale"], where["fsync"], where["commit"], where["load before"]]
        lines.append(f"| [{path.stem}]({path.stem}.md) | {rows} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _where(record: dict[str, Any]) -> str:
    return "; ".join(f"{name} {record['where'][name]}" for name in WHERE) + "."
