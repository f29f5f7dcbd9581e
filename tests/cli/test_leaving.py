"""How the command line's process ends when threads would keep it."""

import subprocess
import sys
import time

import pytest

PROGRAM = """
import threading, time
from headrace.engine.cli import leaving
leaving.LONGEST_S = 0.2
threading.Thread(target=time.sleep, args=(600,), name={name!r}, daemon={daemon}).start()
print("done")
leaving.leave(3)
"""


@pytest.mark.parametrize(("name", "daemon"), [("headrace-1", True), ("of-a-library", False)])
def test_no_thread_keeps_the_process(name, daemon) -> None:
    """A handler's thread is not waited for, a library's only briefly; what was printed is written, the code is kept."""
    began_s = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name, daemon=daemon)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (3, "done\n") == (ended.returncode, ended.stdout)
    assert time.monotonic() - began_s < 60


def test_a_thread_that_ends_soon_is_let_end() -> None:
    """A thread that ends in time does what it was about to do."""
    program = (
        "import threading, time\nfrom headrace.engine.cli import leaving\n"
        "def last(): time.sleep(0.05); print('last words', flush=True)\n"
        "threading.Thread(target=last).start()\nleaving.leave(0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (0, "last words\n") == (ended.returncode, ended.stdout)
