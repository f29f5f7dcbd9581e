"""The buffered file on real files: what is written, when, and what faults and cancellation leave."""

import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from headrace.config.errors import ConfigError
from headrace.engine.files.buffered import BufferedFile
from headrace.engine.files.framing import Frames, read_frames
from headrace.engine.files.opening import AppendFile, open_file
from headrace.engine.files.rotation import rotated_paths
from headrace.engine.files.settings import FileSettings, Fsync

pytestmark = pytest.mark.anyio


def open_descriptors() -> int:
    """Return how many descriptors this process has open; /dev/fd is there on Linux and macOS."""
    return len(list(Path("/dev/fd").iterdir()))


def slow(until: anyio.Event) -> Callable[[Path], Awaitable[AppendFile]]:
    """Return an opener whose files hold each write back until the event."""

    async def opener(path: Path) -> AppendFile:
        file = await open_file(path)
        write = file.write

        async def late(data: bytes | memoryview) -> int:
            await until.wait()
            return await write(data)

        file.write = late  # type: ignore[method-assign]
        return file

    return opener


def losing(left: list[int]) -> Callable[[Path], Awaitable[AppendFile]]:
    """Return an opener whose next `left[0]` fsyncs fail and lose what was not synchronised, as a dying disk does."""

    async def opener(path: Path) -> AppendFile:
        file = await open_file(path)
        durable = [await file.size_bytes()]
        fsync = file.fsync

        async def failing() -> None:
            if left[0]:
                left[0] -= 1
                await file.truncate(min(durable[0], await file.size_bytes()))
                raise OSError(5, "Input/output error")
            await fsync()
            durable[0] = await file.size_bytes()

        file.fsync = failing  # type: ignore[method-assign]
        return file

    return opener


async def test_records_are_written_after_the_linger_without_flush(tmp_path: Path) -> None:
    """A single record reaches the file by itself, without flush or close."""
    path = tmp_path / "log"
    async with BufferedFile(path, FileSettings(linger_s=0.01)) as file:
        await file.write([b"{}"])
        with anyio.fail_after(10):
            while file.statistics().written == 0:
                await anyio.sleep(0.005)
        assert b"{}\n" == path.read_bytes()


async def test_many_small_writes_become_few_large_ones(tmp_path: Path) -> None:
    """A thousand batches of one record are gathered into a handful of writes."""
    async with BufferedFile(tmp_path / "log", FileSettings(linger_s=5.0)) as file:
        for _ in range(1000):
            await file.write([b"x" * 99])
        await file.flush()
        assert 1000 == file.statistics().written
        assert 100_000 == file.statistics().bytes
        assert 3 >= file.statistics().flushes
    assert 100_000 == (tmp_path / "log").stat().st_size


@pytest.mark.parametrize(("fsync", "fsyncs"), [(Fsync.NEVER, 0), (Fsync.INTERVAL, 1), (Fsync.ALWAYS, 1)])
async def test_flush_waits_as_the_policy_says(fsync: Fsync, fsyncs: int, tmp_path: Path) -> None:
    """Flush returns with the record in the file, and with one fsync unless the policy is never."""
    async with BufferedFile(tmp_path / "log", FileSettings(fsync=fsync, fsync_interval_s=60.0)) as file:
        await file.write([b"{}"])
        await file.flush()
        assert b"{}\n" == (tmp_path / "log").read_bytes()
        assert fsyncs == file.statistics().fsyncs
        await file.flush()
        assert fsyncs == file.statistics().fsyncs


async def test_closing_makes_it_durable_under_every_policy(tmp_path: Path) -> None:
    """Close asks the disk even where the policy is never."""
    file = BufferedFile(tmp_path / "log", FileSettings(fsync=Fsync.NEVER))
    async with file:
        await file.write([b"{}"])
    assert 1 == file.statistics().fsyncs
    await file.close()


async def test_a_full_buffer_makes_the_writer_wait_and_keeps_order(tmp_path: Path) -> None:
    """At the bound write waits, takes nothing more, and goes on in order when there is room."""
    path, gate = tmp_path / "log", anyio.Event()
    async with BufferedFile(path, FileSettings(pending_max=4), opener=slow(gate)) as file:
        await file.write([b"0", b"1", b"2"])
        async with anyio.create_task_group() as group:
            group.start_soon(file.write, [b"3", b"4"])
            await anyio.wait_all_tasks_blocked()
            assert 3 == file.statistics().pending
            gate.set()
        await file.flush()
    assert b"0\n1\n2\n3\n4\n" == path.read_bytes()


async def test_a_cancelled_write_that_waited_took_nothing(tmp_path: Path) -> None:
    """A write cancelled while it waits can be made again without doubling a line."""
    path, gate = tmp_path / "log", anyio.Event()
    async with BufferedFile(path, FileSettings(pending_max=2), opener=slow(gate)) as file:
        await file.write([b"0", b"1"])
        with anyio.move_on_after(0.05) as scope:
            await file.write([b"2"])
        assert scope.cancelled_caught
        gate.set()
        await file.write([b"2"])
    assert b"0\n1\n2\n" == path.read_bytes()


async def test_a_cancelled_owner_still_writes_everything_once(tmp_path: Path) -> None:
    """Cancelled in the middle of a write, leaving the block drains: every line is there, once."""
    path, gate = tmp_path / "log", anyio.Event()
    with anyio.CancelScope() as scope:
        async with BufferedFile(path, FileSettings(linger_s=0.0), opener=slow(gate)) as file:
            await file.write([b"0", b"1"])
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            gate.set()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert b"0\n1\n" == path.read_bytes()


async def test_records_can_be_written_in_a_shielded_drain_after_a_cancel(tmp_path: Path) -> None:
    """The writer outlives its cancelled owner: a shielded drain inside the block is still written."""
    path = tmp_path / "log"
    with anyio.CancelScope() as scope:
        async with BufferedFile(path) as file:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await file.write([b"late"])
                await file.flush()
    assert b"late\n" == path.read_bytes()


@pytest.mark.parametrize("fsync", [Fsync.INTERVAL, Fsync.ALWAYS])
async def test_a_failed_fsync_has_the_records_written_again(fsync: Fsync, tmp_path: Path) -> None:
    """What a failed fsync lost is written again to a file opened anew; each record is there once."""
    path = tmp_path / "log"
    settings = FileSettings(fsync=fsync, linger_s=0.0, fsync_interval_s=60.0)
    async with BufferedFile(path, settings, framing=Frames(), opener=losing([2])) as file:
        await file.write([b"0", b"1"])
        await file.flush()
        assert 2 == file.statistics().errors
        assert file.healthy
        await file.write([b"2"])
    assert [b"0", b"1", b"2"] == [payload for _, payload in read_frames(path)]


async def test_a_failed_fsync_at_closing_is_not_hushed_up_where_nothing_was_kept(tmp_path: Path) -> None:
    """With the policy never, close raises the fault of its one fsync."""
    file = BufferedFile(tmp_path / "log", FileSettings(fsync=Fsync.NEVER), opener=losing([1]))
    await file.open()
    await file.write([b"0"])
    with pytest.raises(OSError, match="Input/output"):
        await file.close()


async def test_an_unfinished_line_is_cut_on_reopening(tmp_path: Path) -> None:
    """A torn last line goes; the lines before it stay, and new ones follow them."""
    path = tmp_path / "log"
    path.write_bytes(b'{"n":1}\n{"n"')
    async with BufferedFile(path) as file:
        await file.write([b'{"n":2}'])
    assert b'{"n":1}\n{"n":2}\n' == path.read_bytes()


async def test_a_damaged_file_is_set_aside_whole(tmp_path: Path) -> None:
    """A frame that is wrong in the middle costs nothing: the file is renamed, and a new one begun."""
    path = tmp_path / "spool"
    damaged = bytearray(Frames().join([b"first", b"second", b"third"]))
    damaged[15] ^= 1
    path.write_bytes(damaged)
    async with BufferedFile(path, framing=Frames()) as file:
        await file.write([b"new"])
    assert bytes(damaged) == (tmp_path / "spool.000001").read_bytes()
    assert [b"new"] == [payload for _, payload in read_frames(path)]


async def test_rotation_by_size_keeps_every_record_in_order(tmp_path: Path) -> None:
    """No file grows beyond the bound, and the numbered files read in order give all records."""
    path = tmp_path / "log"
    settings = FileSettings(rotate_bytes=50, chunk_bytes=20, linger_s=0.0)
    async with BufferedFile(path, settings) as file:
        await file.write([b"%03d" % number for number in range(40)])
    paths = [*rotated_paths(path), path]
    assert 4 == len(paths)
    assert all(50 >= part.stat().st_size for part in paths)
    assert list(range(40)) == [int(line) for part in paths for line in part.read_bytes().split()]


async def test_rotation_by_age_and_keeping_a_few(tmp_path: Path) -> None:
    """An old file is rotated at the next write, and only as many rotated files stay as were asked for."""
    path = tmp_path / "log"
    async with BufferedFile(path, FileSettings(rotate_age_s=1e-6, keep_files=2)) as file:
        for number in range(5):
            await file.write([b"%d" % number])
            await file.flush()
        assert 4 == file.statistics().rotations
    assert [b"2\n", b"3\n", b"4\n"] == [part.read_bytes() for part in [*rotated_paths(path), path]]


async def test_a_file_that_cannot_be_rotated_is_written_on(tmp_path: Path) -> None:
    """Where renaming fails the records still go in, and the fault is counted."""
    path = tmp_path / "log"
    (tmp_path / "log.000001").mkdir()
    settings = FileSettings(rotate_bytes=1, keep_files=1, linger_s=0.0)
    async with BufferedFile(path, settings) as file:
        for number in range(3):
            await file.write([b"%d" % number])
            await file.flush()
        assert 0 < file.statistics().errors
    lines = [part.read_bytes() for part in [*rotated_paths(path), path] if part.is_file()]
    assert b"2\n" == lines[-1]


async def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """One writer a file: the second is told to take another path, and the first goes on."""
    async with BufferedFile(tmp_path / "log") as file:
        with pytest.raises(ConfigError, match="path of its own"):
            await BufferedFile(tmp_path / "log").open()
        await file.write([b"{}"])
    assert b"{}\n" == (tmp_path / "log").read_bytes()


async def test_a_missing_folder_is_named_at_opening(tmp_path: Path) -> None:
    """Opening says which path it could not open, and leaves nothing to close."""
    file = BufferedFile(tmp_path / "none" / "log")
    with pytest.raises(FileNotFoundError, match="none/log"):
        await file.open()
    await file.close()


async def test_writing_before_opening_or_after_closing_is_refused(tmp_path: Path) -> None:
    """A record for a closed file is refused aloud rather than dropped."""
    file = BufferedFile(tmp_path / "log")
    async with file:
        pass
    with pytest.raises(OSError, match="not open"):
        await file.write([b"{}"])


async def test_a_batch_larger_than_the_buffer_is_taken_when_it_is_empty(tmp_path: Path) -> None:
    """A batch beyond the bound does not wait for ever."""
    with anyio.fail_after(10):
        async with BufferedFile(tmp_path / "log", FileSettings(pending_max=2)) as file:
            await file.write([b"0", b"1", b"2"])
            await file.write([b"3", b"4", b"5"])
    assert b"0\n1\n2\n3\n4\n5\n" == (tmp_path / "log").read_bytes()


async def test_files_close_in_any_order_and_scope_and_leave_no_descriptor(tmp_path: Path) -> None:
    """Files close in the order they were opened, inside a shield, and in another child; none leaves a descriptor."""
    gc.collect()
    before = open_descriptors()
    files = [BufferedFile(tmp_path / name) for name in "abc"]
    for file in files:
        await file.open()
        await file.write([b"1"])
    await files[0].close()
    with anyio.CancelScope(shield=True):
        await files[1].close()
    async with anyio.create_task_group() as group:
        group.start_soon(files[2].close)
    assert before >= open_descriptors()
    assert [b"1\n"] * 3 == [file.path.read_bytes() for file in files]


def test_a_loop_that_ends_before_the_file_is_closed_does_not_hang(
    tmp_path: Path, anyio_backend_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An owner that forgets to close gets its loop back, and the log says so."""

    async def forget() -> None:
        file = BufferedFile(tmp_path / "log", FileSettings(linger_s=60.0))
        await file.open()
        await file.write([b"{}"])

    anyio.run(forget, backend=anyio_backend_name)
    assert "a file was not closed" in caplog.text
    assert "pending=1" in caplog.text


async def test_an_emptied_file_is_not_filled_up_with_zeros_after_a_fault(tmp_path: Path) -> None:
    """When somebody empties the file and then an fsync fails, the file opened anew holds only records, and no zeros."""
    path, left = tmp_path / "log", [0]
    async with BufferedFile(path, FileSettings(fsync_interval_s=60.0), opener=losing(left)) as file:
        await file.write([b"0123456789"])
        await file.flush()
        path.write_bytes(b"")
        left[0] = 1
        await file.write([b"1"])
    # At least once: whether the disk kept the first "1" cannot be known in a file that somebody else changed.
    assert {b"1"} == set(path.read_bytes().splitlines())
