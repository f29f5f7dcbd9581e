"""A full disk, by a real kernel: records wait, the fault shows, and nothing is lost, doubled or torn."""

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from headrace.engine.files.buffered import BufferedFile
from headrace.engine.files.framing import read_frames
from headrace.engine.files.settings import FileSettings

CHILD = Path(__file__).with_name("faulty_disk.py")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("framing", ["lines", "frames"])
def test_a_full_disk_is_waited_for_and_every_record_is_there_once(loop: str, framing: str, tmp_path: Path) -> None:
    """After space returns, the file holds every record once, whole and in order."""
    path = tmp_path / "log"
    run = subprocess.run(
        [sys.executable, str(CHILD), loop, str(path), framing, "1501", "400"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert 0 == run.returncode, run.stderr
    lines = path.read_bytes().splitlines() if framing == "lines" else [payload for _, payload in read_frames(path)]
    assert list(range(400)) == [json.loads(line)["n"] for line in lines]


@pytest.mark.anyio
async def test_closing_on_a_full_disk_says_how_many_records_are_left() -> None:
    """/dev/full refuses every write: close gives up at its deadline and names count, path and reason."""
    file = BufferedFile("/dev/full", FileSettings(close_timeout_s=0.2, linger_s=0.0))
    await file.open()
    await file.write([b"a", b"b"])
    with anyio.fail_after(20), pytest.raises(TimeoutError, match=r"/dev/full: 2 records .*No space left on device"):
        await file.close()
    assert not file.healthy
    assert 0 < file.statistics().errors
    with pytest.raises(OSError, match="no longer written to"):
        await file.write([b"c"])
