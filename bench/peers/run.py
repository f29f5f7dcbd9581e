"""headrace and its peers, the same jobs, server, socket and fsync mode for each: who does how much, at what cost?

Rounds alternate between the rows, whose order rotates from round to round; each measurement has a server of its own.
Writes bench/results/peers.json, .md and .svg after each round; with --loss, peers-loss.json and .md. What asks
less than all of them goes beside these by --name.

    make bench-peers ARGS="--only streaq bullmq --rounds 3 --questions b c --name peers-two"
    make bench-peers ARGS=--loss
    make bench-peers ARGS="--render peers peers-loss"     the pages anew, from the JSON, without measuring
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator

from support import FSYNC, child, machine

from . import environments, loss, measuring, picture, tables
from .plan import About, Plan, Row

RESULTS = pathlib.Path(__file__).parents[1] / "results"
FLOOR_JOBS = {"noop": 300_000, "sleep": 120_000}


def parse() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="make bench-peers ARGS=...", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="NAME", help="peers or rows such as arq-default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", nargs="+", choices=tables.QUESTIONS, default=list(tables.QUESTIONS))
    parser.add_argument("--results", nargs="+", choices=["without", "with"], default=["without", "with"])
    parser.add_argument("--fsync", choices=FSYNC, default="everysec")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many jobs; 0.05 for a look")
    parser.add_argument("--name", default="peers", help="of the files in bench/results; peers")
    parser.add_argument("--loss", action="store_true", help="only the probe: kill -9 of a busy worker, what never ran")
    parser.add_argument("--render", nargs="+", metavar="NAME", help="only write NAME.md anew, from NAME.json")
    return parser.parse_args()


def peers(only: list[str] | None, skipped: dict[str, str]) -> Iterator[measuring.Peer]:
    """Yield the rows that are wanted; what cannot be made goes to `skipped`, with the reason."""
    for name in environments.NAMES:
        wanted = [word for word in only or [name] if word.split("-")[0] == name]
        if not wanted and name != tables.OWN:
            continue
        try:
            environment = environments.make(name)
            told = environment.ask(Plan(), "about")
        except environments.NotMade as error:
            skipped[name] = str(error)
            continue
        rows = {variant: Row(**row) for variant, row in told.pop("rows").items()}  # type: ignore[attr-defined]
        about = About(rows=rows, **told)  # type: ignore[arg-type]
        for variant in rows:
            peer = measuring.Peer(environment, about, variant)
            is_own = peer.name == tables.OWN
            if is_own or name in wanted or peer.name in wanted:
                yield peer


def measure(peer: measuring.Peer, question: str, results: bool, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one row once."""
    _, handler, workers = tables.QUESTIONS[question]
    plan = Plan(handler=handler, results=results)
    if question == "e":
        return measuring.latency(peer, plan, arguments.fsync)
    row = peer.about.rows[peer.variant]
    jobs = (row.sleep_count if handler == "sleep" else row.noop_count) * workers
    jobs = max(200, round(jobs * arguments.scale))
    return measuring.throughput(peer, plan, jobs, workers, arguments.fsync)


def floor(question: str, results: bool, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure the floor, on its own server over the same kind of socket, with one worker."""
    _, handler, _ = tables.QUESTIONS[question]
    options = ["--jobs", str(max(1000, round(FLOOR_JOBS[handler] * arguments.scale))), "--fsync", arguments.fsync]
    options += ["--sleep-ms", "1"] if handler == "sleep" else []
    found = child("floor.py", *options, *([] if results else ["--no-results"]))
    return {
        "jobs": float(options[1]), "jobs_per_s": found["jobs_per_s"], "worker_cpu_us": found["cpu_us_per_job"],
        "server_cpu_us": found["server_cpu_us_per_job"], "worker_rss_mb": found["rss_mb"],
        "submit_per_s": found["submit_per_s"],
    }  # fmt: skip


def record(records: list[tables.Record], head: tables.Record, run: Callable[[], dict[str, float]]) -> None:
    """Run one measurement and keep what it gave, or why it failed."""
    began_s, figures, failed = time.monotonic(), None, None
    try:
        figures = run()
    except (measuring.Failed, environments.NotMade, SystemExit) as error:
        failed = str(error)
    records.append({**head, "figures": figures, "failed": failed})
    shown = failed or ", ".join(f"{name} {value:,.1f}" for name, value in (figures or {}).items())
    where = " ".join(str(value) for value in head.values())
    print(f"[{time.monotonic() - began_s:5.1f} s] {where}: {shown}", file=sys.stderr, flush=True)


def one_round(
    number: int, rows: list[measuring.Peer], records: list[tables.Record], arguments: argparse.Namespace
) -> None:
    """Measure every question on every row, beginning with another row each round."""
    turned = rows[number % len(rows) :] + rows[: number % len(rows)]
    for question in arguments.questions:
        for kept in arguments.results:
            results = kept == "with"
            if question == "e" and results and "without" in arguments.results:
                continue  # a lone job's start does not wait for anybody's result
            head = {"round": number, "question": question, "results": results}
            if question in {"b", "c"}:
                record(records, {**head, "row": tables.FLOOR}, lambda q=question, r=results: floor(q, r, arguments))
            for peer in turned:
                if results or peer.about.without_results:
                    record(records, {**head, "row": peer.name},
                        lambda p=peer, q=question, r=results: measure(p, q, r, arguments))  # fmt: skip


def render(name: str) -> str:
    """Write page and picture of what was measured; returns the page."""
    document = json.loads((RESULTS / f"{name}.json").read_text())
    page = tables.page(document["where"], document["records"], document["rows"], document["not_measured"])
    if svg := picture.picture(document["where"], document["records"]):
        (RESULTS / f"{name}.svg").write_text(svg)
        page += f"\n![{picture.ASKS}]({name}.svg)\n"
    (RESULTS / f"{name}.md").write_text(page)
    return page


def write(name: str, where: dict[str, object], records: list[tables.Record], rows: list[measuring.Peer],
          skipped: dict[str, str]) -> str:  # fmt: skip
    """Write the files of a name; returns the page."""
    told = [
        {"name": peer.name, "settings": peer.about.rows[peer.variant].settings, "promise": peer.about.promise,
         "redelivery": peer.about.redelivery, "source": peer.about.source, "versions": peer.about.versions}
        for peer in rows
    ]  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    document = {"where": where, "rows": told, "not_measured": skipped, "records": records}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    return render(name)


def main() -> None:
    """Make the environments, measure, write and print."""
    arguments = parse()
    for name in arguments.render or ():
        render(name)
    if arguments.render:
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the workers as Ctrl-C does
    skipped: dict[str, str] = {}
    rows = list(peers(arguments.only, skipped))
    known = {peer.name for peer in rows} | {peer.environment.name for peer in rows} | set(skipped)
    if unknown := set(arguments.only or ()) - known:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(environments.NAMES)}")
    where = {
        **machine(), "transport": "Unix socket", "fsync": arguments.fsync, "scale": arguments.scale,
        "kernel": platform.release(), "load before": f"{os.getloadavg()[0]:.2f}",
    }  # fmt: skip
    records: list[tables.Record] = []
    page = ""
    if arguments.loss:
        rows = [peer for peer in rows if peer.variant in loss.VARIANTS]
        for peer in rows:
            head: tables.Record = {"round": 0, "question": "loss", "results": False, "row": peer.name}
            record(records, head, lambda p=peer: loss.probe(p, arguments.fsync))
        page = write("peers-loss", where, records, rows, skipped)
    else:
        for number in range(arguments.rounds):
            one_round(number, rows, records, arguments)
            page = write(arguments.name, {**where, "rounds": number + 1}, records, rows, skipped)
    print(page)


if __name__ == "__main__":
    main()
