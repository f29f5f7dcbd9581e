"""The index of a folder of results: each question with its answer's page, and every promise with what came of it.

Made from the result files alone, so it is right whoever wrote them; those of other commits say so.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

WHERE = ("machine", "cpu", "kernel", "disk", "python", "server")


def write_index(folder: pathlib.Path, names: Sequence[str], failed: Sequence[str]) -> pathlib.Path:
    """Write README.md into a folder of results and return its path.

    Args:
        folder: The folder.
        names: All questions, in their order.
        failed: Those that failed just now; what they left before is not shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.json" for name in names if name not in failed}
    records = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    path = folder / "README.md"
    path.write_text("\n\n".join(_parts(records, failed)) + "\n", encoding="utf-8")
    return path


def _parts(records: dict[str, Any], failed: Sequence[str]) -> list[str]:
    parts = ["# Results", "Written by `bench/run.py`; each page has its settings, and NAME.json every round."]
    parts += dict.fromkeys(_where(record) for record in records.values())
    lines = ["| question | asks | rounds | began | commit | load before, after |", "|---|---|---:|---|---|---|"]
    for name, record in records.items():
        load = f"{record['load_before'][0]:g}, {record['load_after'][0]:g}"
        rounds = f"{record['rounds']}{', quick' if record['quick'] else ''}"
        cells = [f"[{name}]({name}.md)", record["asks"], rounds, record["began_at"], record["where"]["commit"], load]
        lines.append("| " + " | ".join(cells) + " |")
    parts.append("\n".join(lines))
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


def _where(record: dict[str, Any]) -> str:
    return "; ".join(f"{name} {record['where'][name]}" for name in WHERE) + "."
