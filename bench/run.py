"""Asks all questions, one after the other, and writes an index of the answers.

A question that fails is named at the end, and the others are asked all the same. A quick run shows within three minutes
that everything works; its figures are too few to be believed, and go to a folder of their own, results/quick.

    python bench/run.py [NAME ...] [--quick] [--rounds N] [--profile cpu|mem] [--results DIR] [--render]
"""

import argparse
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

from measuring.asking import QUICK_RESULTS, RESULTS
from measuring.children import END_WITHIN_S, end
from measuring.index import write_index
from measuring.probe import end_by_signal
from measuring.profiling import KINDS
from measuring.servers import HERE

#: In the order in which they are asked: what everything else is measured with comes first.
QUESTIONS = (
    "engine", "slots", "payload", "handlers", "submission", "api", "latency", "waiting", "backlog", "features", "fsync",
    "processes", "dispatcher", "files", "broker",
)  # fmt: skip


def chosen(names: Sequence[str]) -> list[str]:
    """Return the questions that are asked for; a path of a script names it, too.

    Raises:
        SystemExit: there is no such question; lists what there is.
    """
    wanted = [pathlib.Path(name).stem for name in names] or list(QUESTIONS)
    if unknown := [name for name in wanted if name not in QUESTIONS]:
        raise SystemExit(f"no such question: {', '.join(unknown)}; there are: {', '.join(QUESTIONS)}")
    return wanted


def ask_one(name: str, options: Sequence[str]) -> int:
    """Run a question's script and return its exit code."""
    process = subprocess.Popen([sys.executable, str(HERE / f"{name}.py"), *options])
    try:
        return process.wait()
    finally:
        end(process, 2 * END_WITHIN_S)  # it may have to insist on a probe's end itself


def main() -> None:
    """Ask, and end with 1 when a question failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="questions; all without")
    parser.add_argument("--quick", action="store_true", help="fewer cases, jobs and rounds; to see that all works")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each case")
    parser.add_argument("--jobs", type=int, default=0, help="jobs of a round, for every case")
    parser.add_argument("--profile", choices=KINDS, help="profile each case once instead; no results are written")
    parser.add_argument("--results", type=pathlib.Path, metavar="DIR", help="where results go")
    parser.add_argument("--render", action="store_true", help="measure nothing: pages and plots anew, from the JSON")
    arguments = parser.parse_args()
    names, folder = chosen(arguments.names), arguments.results or (QUICK_RESULTS if arguments.quick else RESULTS)
    options = ["--results", str(folder.resolve()), *(["--quick"] if arguments.quick else []),
               *(["--render"] if arguments.render else [])]  # fmt: skip
    for name in ("rounds", "jobs", "profile"):
        if value := getattr(arguments, name):
            options += [f"--{name}", str(value)]
    end_by_signal()
    began_s, failed = time.monotonic(), []
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        if ask_one(name, options):
            failed.append(name)
    if not arguments.profile:
        print(f"written: {write_index(folder, QUESTIONS, failed)}", file=sys.stderr)
    print(f"{len(names)} questions took {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; what each said is above")


if __name__ == "__main__":
    main()
