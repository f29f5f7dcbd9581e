"""A child of test_full_disk: writes records to a file that may not grow, says when it waits, then lets the file grow.

RLIMIT_FSIZE makes a real kernel refuse a real write (EFBIG, after a short write), as a full disk does, without needing
any right. Arguments: loop, path, framing, limit in bytes, number of records.
"""

import resource
import signal
import sys
from pathlib import Path

import anyio

from headrace.engine.files.buffered import BufferedFile
from headrace.engine.files.framing import Frames, JsonLines
from headrace.engine.files.settings import FileSettings, Fsync


async def write_through_a_full_disk(path: Path, framing: str, limit_bytes: int, count: int) -> None:
    """Fill the file to its limit, show that records wait, raise the limit, and close."""
    settings = FileSettings(fsync=Fsync.INTERVAL, linger_s=0.01, chunk_bytes=1000, pending_max=20)
    async with BufferedFile(path, settings, framing=Frames() if framing == "frames" else JsonLines()) as file:

        async def produce() -> None:
            for number in range(count):
                await file.write([b'{"n":%d}' % number])

        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            with anyio.fail_after(20):
                while file.healthy or file.statistics().pending < 20:
                    await anyio.sleep(0.01)
            full = file.statistics()
            assert (await anyio.Path(path).stat()).st_size <= limit_bytes, "the limit did not hold"
            assert full.errors > 0, "the fault was not counted"
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await file.flush()
        assert file.healthy, "healthy did not return with the space"
        assert file.statistics().pending == 0, "records still wait"


if __name__ == "__main__":
    loop, path, framing, limit, count = sys.argv[1:]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    anyio.run(write_through_a_full_disk, Path(path), framing, int(limit), int(count), backend=loop)
