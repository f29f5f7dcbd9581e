"""Is this checkout faster than another one? Both and the floor in alternating rounds, by the scripts of this one.

On a machine that does other work, believe the CPU seconds per job and the median of the rounds' ratios, not jobs/s.

    python bench/compare.py FOLDER [--rounds 7] [--jobs N] [--loop asyncio uvloop trio] [--fsync MODE] [--no-results]

FOLDER is another checkout in which `make venv` was run.
"""

import argparse
import os
import pathlib

from support import FSYNC, child, machine, median, ratio

LOOPS = ("asyncio", "uvloop", "trio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--loop", choices=LOOPS, nargs="+", default=["asyncio", "trio"])
    parser.add_argument("--fsync", choices=FSYNC, default="everysec")
    parser.add_argument("--no-results", action="store_true")
    arguments = parser.parse_args()
    if arguments.folder is None:  # `make bench` runs every script
        print("compare.py: name another checkout to compare with")
        return
    other = str(arguments.folder / ".venv" / "bin" / "python")
    base = ["--jobs", str(arguments.jobs), "--fsync", arguments.fsync]
    base += ["--no-results"] if arguments.no_results else []
    print(f"{machine()} rounds={arguments.rounds} load={os.getloadavg()} {' '.join(base)}")
    for loop in arguments.loop:
        rounds: dict[str, list[dict[str, float]]] = {"floor": [], "other": [], "this": []}
        for _ in range(arguments.rounds):
            rounds["floor"].append(child("floor.py", *base, "--loop", loop))
            rounds["other"].append(child("engine.py", "--one", *base, "--loop", loop, python=other))
            rounds["this"].append(child("engine.py", "--one", *base, "--loop", loop))
        for who, figures in rounds.items():
            print(
                f"{loop:8} {who:6} {median(figures, 'jobs_per_s'):9,.0f} jobs/s, to the floor"
                f" {ratio(figures, rounds['floor'], 'jobs_per_s'):.2f}; CPU us/job: worker"
                f" {median(figures, 'cpu_us_per_job'):.1f}, to the floor"
                f" {ratio(figures, rounds['floor'], 'cpu_us_per_job'):.2f}, server"
                f" {median(figures, 'server_cpu_us_per_job'):.1f}; submit {median(figures, 'submit_per_s'):9,.0f}/s"
            )
    print(f"load={os.getloadavg()}")


if __name__ == "__main__":
    main()
