"""What a run of the suite must not leave behind: Valkey and Redis servers, however they were started.

A server is of this run when it is a child of this process, as those of servers.py are, or works or listens in one of
the folders that the run made. Servers of other runs on this machine are none of them; a list of process ids would not
tell them apart, for ids are used again within minutes.
"""

import os
import secrets
import signal
import time
from pathlib import Path

#: How the short folders of this run begin, which hold sockets: a socket's path is limited to about 104 bytes.
SHORT = f"hr-{secrets.token_hex(3)}-"
NAMES = (b"valkey-server", b"redis-server")
#: A server that was told to stop writes its journal and ends within milliseconds; generous, for a busy machine.
END_WITHIN_S = 10.0


def servers_left(folder: Path) -> dict[int, str]:
    """Return the servers of this run that are still there, by process id; none where there is no /proc.

    Args:
        folder: The run's temporary folder.
    """
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        try:
            title = (process / "cmdline").read_bytes().rstrip(b"\0 ")
            if not any(name in title for name in NAMES):
                continue
            place = os.readlink(process / "cwd")
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
        said = f"{title.decode(errors='replace')} in {place}"
        if parent == os.getpid() or f"/{SHORT}" in said or place.startswith(f"{folder}/"):
            found[pid] = said
    return found


def insist_on_none(folder: Path) -> None:
    """Fail when servers of this run are left, after a while for those that are about to end; ends what is left."""
    ends_s = time.monotonic() + END_WITHIN_S
    while (left := servers_left(folder)) and time.monotonic() < ends_s:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert {} == left, f"{len(left)} servers were left by this run, and are ended now"
