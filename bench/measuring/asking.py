"""The command line of every question: what to measure, and where the answer goes.

A script hands its Question to `ask`, which measures, prints a markdown table and writes the results.
"""

import argparse
import json
import pathlib
import sys

from .probe import end_by_signal
from .profiling import KINDS
from .question import Question
from .result import read, record, write
from .rounds import Wish, measure
from .servers import HERE
from .table import page

RESULTS = HERE / "results"
#: Of quick runs; their figures are for nobody to keep.
QUICK_RESULTS = RESULTS / "quick"


def ask(question: Question) -> None:
    """Answer a question as the command line says.

    Raises:
        SystemExit: a probe failed; with its message.
    """
    parser = argparse.ArgumentParser(prog=f"bench/{question.name}.py", description=question.asks)
    parser.add_argument("--quick", action="store_true", help="fewer cases, jobs and rounds; to see that all works")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each case")
    parser.add_argument("--jobs", type=int, default=0, help="jobs of a round, for every case")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with TEXT in their name, and what they need")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--profile", choices=KINDS, help="profile each case once instead; no results are written")
    parser.add_argument("--results", type=pathlib.Path, metavar="DIR", help="where results go")
    parser.add_argument("--render", action="store_true", help="only write page and plot anew, from the JSON of results")
    arguments = vars(parser.parse_args())
    as_json, from_json = arguments.pop("json"), arguments.pop("render")
    arguments["results"] = arguments["results"] or (QUICK_RESULTS if arguments["quick"] else RESULTS)
    if from_json:
        write(read(question, arguments["results"]))
        return
    end_by_signal()
    answer = measure(question, Wish(**arguments), lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(record(answer), indent=1) if as_json else page(answer))
    if answer.wish.profile:
        where = answer.wish.results / "profiles"
        print(f"profiles are in {where}; the figures above are a profiled run's and were not stored", file=sys.stderr)
        return
    paths = write(answer)
    print(f"written: {', '.join(str(path) for path in paths)}", file=sys.stderr)
