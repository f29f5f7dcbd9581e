"""What is promised of exporting dead letters: on the disk before they are removed, the oldest first, none lost."""

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace import Engine
from headrace.config import limits
from headrace.engine import inspect
from headrace.engine.broker.control import OpenBroker
from headrace.engine.broker.courier import Courier
from headrace.engine.broker.open import open_broker
from headrace.engine.broker.port import Bound, Registration, Submission
from headrace.engine.broker.views import PackedLetter
from headrace.engine.loops import export
from headrace.engine.loops.export import DeadExport, Depths, ExportPlan, pause_after
from headrace.engine.observe.seldom import Seldom
from headrace.jobs import codec
from headrace.jobs.disposition import DeadLetter, Disposition, Kind, pack_letter
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.letters import dead_item
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 30.0
Q = "default"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("export")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[], OpenBroker]]:
    """Return brokers that share their jobs, on memory and on a server."""
    number, opened = next(_numbers), list[OpenBroker]()
    url = f"memory://export-{number}" if request.param == "memory" else request.getfixturevalue("server").url

    def connect() -> OpenBroker:
        opened.append(open_broker(url, namespace=f"export-{number}"))
        return opened[-1]

    yield connect
    for broker in opened:
        broker.close()


class Stage:
    """One exporter as a worker has it, and what it said."""

    def __init__(self, views: Any, folder: Path, worker: str = "w1", *, max_dead: int = 2) -> None:
        self.folder = folder / "dead-letters"
        self.names: list[str] = []
        self.told: list[tuple[str, str, Sequence[str]]] = []
        plan = ExportPlan(
            worker=worker, namespace="n", queues=(Q,), max_dead=max_dead, rotate_bytes=0, data_folder=lambda: folder
        )
        self.export = DeadExport(views, Courier(True), plan, self._tell, self.names.extend)

    async def _tell(self, kind: str, worker: str, queues: Sequence[str]) -> None:
        self.told.append((kind, worker, queues))

    def lines(self, worker: str = "w1") -> list[dict[str, Any]]:
        path = self.folder / f"n-{worker}.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    async def run_until(self, done: Callable[[], bool], dead: int = 1_000_000) -> None:
        """Let it run, told that there are so many letters, until `done`."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.export.run)
            with anyio.fail_after(WAIT_S):
                while not done():
                    self.export.look({Q: dead})
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()


def bury(broker: OpenBroker, count: int) -> list[str]:
    """Have jobs die; return their ids, the oldest first."""
    broker.register(Registration("burying", (Q,), 30.0))
    ids = broker.publish(Q, [Submission(codec.pack_foreign("add", [1], {"b": b"\xff"}))] * count, "", Bound())
    for lease in broker.fetch({Q: count}, 0):
        letter = DeadLetter(
            id=lease.job_id, queue=Q, name="add", reason="failed", error="E: no", traceback="at line 1\nat 2",
            attempts=3, deliveries=4, died_at_ms=7, body=lease.body,
        )  # fmt: skip
        broker.settle([Disposition(lease, Kind.DEAD, letter=pack_letter(letter))])
    return ids


def shown(broker: OpenBroker) -> dict[str, Any]:
    """Return every letter as `dead show --json` prints it."""
    letters = inspect.dead(broker, Q, "", 10_000)[0]
    return {letter.id: json.loads(export.line_of(letter)) for letter in letters}


def said(caplog: pytest.LogCaptureFixture, event: str) -> list[tuple[str, dict[str, Any]]]:
    """Return level and fields of each line of the exporter's that says so."""
    lines = [(record.levelname, record.msg) for record in caplog.records if record.name == "headrace.export"]
    return [(level, line) for level, line in lines if isinstance(line, dict) and line["event"] == event]


class Failing:
    """A broker whose first removal fails, before or after it was carried out."""

    def __init__(self, broker: OpenBroker, *, carried_out: bool) -> None:
        self._broker, self._carried_out, self.failed = broker, carried_out, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def dead_remove(self, letters: Sequence[PackedLetter]) -> list[bool]:
        if not self.failed:
            self.failed = 1
            if self._carried_out:
                self._broker.dead_remove(letters)
            raise BrokerUnavailable("the connection was reset")
        return self._broker.dead_remove(letters)


async def test_the_oldest_beyond_the_bound_are_exported_in_order(
    connect: Callable[[], OpenBroker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line is what `dead show` said, the oldest first; the newest stay, and what was done is told and counted."""
    broker = connect()
    ids, stage = bury(broker, 7), Stage(connect(), tmp_path)
    before = shown(broker)
    assert {"b": "/w=="} == before[ids[0]]["kwargs"]
    await stage.run_until(lambda: bool(stage.told))
    assert [before[job_id] for job_id in ids[:5]] == stage.lines()
    assert {*ids[5:]} == shown(broker).keys()
    assert [("dead.exported", "w1", (Q,))] == stage.told
    assert ["add"] * 5 == stage.names
    path = str(tmp_path / "dead-letters" / "n-w1.jsonl")
    alarms = said(caplog, "dead letters exported")
    assert [("WARNING", Q, 5, path)] == [
        (level, each["queue"], each["letters"], each["file"]) for level, each in alarms
    ]
    assert {0o700} == {(stage.folder / "..").stat().st_mode & 0o777, stage.folder.stat().st_mode & 0o777}


async def test_within_the_bound_nothing_is_exported(connect: Callable[[], OpenBroker], tmp_path: Path) -> None:
    """With as many letters as may be no folder is made, though the worker thought that there are more."""
    broker = connect()
    ids, stage = bury(broker, 2), Stage(connect(), tmp_path)
    stage.export.died({Q: 9})
    async with anyio.create_task_group() as group:
        group.start_soon(stage.export.run)
        with anyio.fail_after(WAIT_S):
            while stage.export._depths.beyond():
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert ([], {*ids}) == (os.listdir(tmp_path), shown(broker).keys())


@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_crash_between_export_and_removal_loses_nothing(
    connect: Callable[[], OpenBroker], tmp_path: Path, carried_out: bool
) -> None:
    """What was written and not seen removed is written again unless it is gone; each letter is there at least once."""
    broker = connect()
    ids, failing = bury(broker, 7), Failing(connect(), carried_out=carried_out)
    stage = Stage(failing, tmp_path)
    await stage.run_until(lambda: failing.failed > 0 and 2 == len(shown(broker)))
    assert ids[:5] * (1 if carried_out else 2) == [line["id"] for line in stage.lines()]
    assert {*ids[5:]} == shown(broker).keys()


async def test_a_worker_that_died_before_the_removal_is_made_up_for(
    connect: Callable[[], OpenBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The letters that it wrote are still there for the next one, which writes them too, and removes them."""
    monkeypatch.setattr(limits, "DEAD_CLAIM_S", 0.1)
    broker = connect()
    ids, first = bury(broker, 7), Stage(connect(), tmp_path)
    letters, _, lines = first.export._read([Q])
    await first.export._write(lines)
    assert (5, 7) == (len(letters), len(shown(broker)))
    second = Stage(connect(), tmp_path, "w2")
    await second.run_until(lambda: bool(second.told))
    assert [ids[:5]] * 2 == [[line["id"] for line in first.lines(worker)] for worker in ("w1", "w2")]
    assert 2 == len(shown(broker))


async def test_two_workers_at_once_do_no_harm(
    connect: Callable[[], OpenBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where both read the same letters each removal is counted once, and each letter is in a file."""
    monkeypatch.setattr(limits, "DEAD_CLAIM_S", 0.0)
    monkeypatch.setattr(limits, "DEAD_EXPORT_COUNT", 5)
    broker = connect()
    ids, stages = bury(broker, 40), [Stage(connect(), tmp_path, worker) for worker in ("w1", "w2")]
    async with anyio.create_task_group() as group:
        for stage in stages:
            group.start_soon(stage.run_until, lambda: len(shown(broker)) <= 2)
    written = {line["id"] for worker in ("w1", "w2") for line in stages[0].lines(worker)}
    assert {*ids[:38]} == written
    assert {*ids[38:]} == shown(broker).keys()
    assert 38 >= sum(len(stage.names) for stage in stages)


async def test_what_cannot_be_written_stays_and_is_told(
    connect: Callable[[], OpenBroker],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While there is no folder to write to, nothing is removed and one line says so; once there is, it is made up."""
    monkeypatch.setattr(export, "RETRY_S", 0.02)
    monkeypatch.setattr(export, "seldom", Seldom(export.log))
    broker = connect()
    ids, data = bury(broker, 7), tmp_path / "data"
    data.write_text("a file is in the way")
    stage = Stage(connect(), data)
    asked = itertools.count()
    await stage.run_until(lambda: next(asked) > 20)
    ((level, line),) = said(caplog, "dead letters are not exported")
    assert ("ERROR", [Q], True) == (level, line["queues"], str(data) in line["why"])
    assert {*ids} == shown(broker).keys()
    data.unlink()
    await stage.run_until(lambda: bool(stage.told))
    assert ids[:5] == [line["id"] for line in stage.lines()]


async def test_a_full_disk_is_waited_for(
    connect: Callable[[], OpenBroker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the disk takes nothing, nothing is removed; a worker can stop meanwhile, and the next one does it."""
    broker = connect()
    ids, stage = bury(broker, 7), Stage(connect(), tmp_path)
    stage.folder.mkdir()
    (stage.folder / "n-w1.jsonl").symlink_to("/dev/full")
    await stage.run_until(lambda: "a file cannot be written" in caplog.text)
    assert {*ids} == shown(broker).keys()
    (stage.folder / "n-w1.jsonl").unlink()
    await stage.run_until(lambda: bool(stage.told))
    assert ids[:5] == [line["id"] for line in stage.lines()]


async def test_a_letter_that_cannot_be_read_is_exported_as_bytes(
    connect: Callable[[], OpenBroker], tmp_path: Path
) -> None:
    """Of a letter of another version the line has the id and all bytes."""
    broker = connect()
    broker.register(Registration("burying", (Q,), 30.0))
    (job_id,) = broker.publish(Q, [Submission(codec.pack_foreign("add", [], {}))], "", Bound())
    (lease,) = broker.fetch({Q: 1}, 0)
    broker.settle([Disposition(lease, Kind.DEAD, letter=b"from another time")])
    stage = Stage(connect(), tmp_path, max_dead=0)
    await stage.run_until(lambda: bool(stage.told))
    (line,) = stage.lines()
    assert (job_id, Q, "ZnJvbSBhbm90aGVyIHRpbWU=") == (line["id"], line["queue"], line["raw_base64"])
    assert "unreadable" in line["error"]
    assert ["(malformed)"] == stage.names


def test_only_queues_beyond_the_bound_are_looked_at() -> None:
    """What the server says and what died since add up; a queue that was cleared waits for the next word."""
    depths = Depths(("a", "b"), 3)
    depths.note("a", 3)
    assert [] == depths.beyond()
    depths.add({"a": 1, "b": 3})
    assert ["a"] == depths.beyond()
    depths.clear(["a"])
    assert [] == depths.beyond()
    depths.add({"b": 1, "a": 1})
    assert ["a", "b"] == depths.beyond()


def test_large_batches_follow_each_other_at_once() -> None:
    """Only where few and small letters came does it wait for more of them."""
    small, large = PackedLetter(Q, "default:1-0", b"x"), PackedLetter(Q, "default:1-0", b"x" * (1 << 20))
    assert [export.GATHER_S, 0.0, 0.0] == [pause_after([small]), pause_after([small] * 500), pause_after([large] * 2)]


@pytest.mark.parametrize("kind", ["memory", pytest.param("server", marks=pytest.mark.redis_core)])
async def test_an_engine_whose_jobs_go_on_dying_keeps_the_bound(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 600 jobs that died is a letter or in the file, once; the figures and the events tell of it."""
    (tmp_path / "headrace.toml").touch()
    monkeypatch.chdir(tmp_path)
    url = "memory://" if kind == "memory" else request.getfixturevalue("server").url
    engine = Engine(url, max_dead=50, namespace=f"dying-{next(_numbers)}", result_ttl="1h")
    heard: list[str] = []

    @engine.job(retry=None)
    async def fail(number: int) -> None:
        raise ValueError(number)

    @engine.on("dead.exported")
    async def hear(event: Any) -> None:
        heard.append(event.queue)

    most, ids = 0, list[str]()
    async with engine.running():
        for first in range(0, 600, 20):
            ids += [handle.id for handle in await fail.submit_many([(first + n,) for n in range(20)])]
            await anyio.sleep(0.02)
            most = max(most, engine.statistics().queues[Q].dead if Q in engine.statistics().queues else 0)
        with anyio.fail_after(WAIT_S):
            while engine.statistics().errors.exported < 550 or engine.statistics().queues[Q].dead != 50 or not heard:
                await anyio.sleep(0.05)
        figures = engine.statistics()
        broker = engine.connection.open()
        kept = shown(broker).keys()
        engine.connection.close()
        async for event in engine.events(after="0"):
            if event.kind == "dead.exported":
                break
    (path,) = (tmp_path / ".headrace" / "dead-letters").iterdir()
    exported = [json.loads(line)["id"] for line in path.read_bytes().splitlines()]
    assert (600, 550, 550) == (figures.errors.dead, figures.errors.exported, figures.handlers["fail"].errors.exported)
    assert (550, {*ids}) == (len(exported), {*exported} | kept)
    assert {Q} == {*heard}
    assert 400 > most


def test_dead_items_are_what_lines_hold() -> None:
    """The record and its line say the same, whatever the arguments are."""
    letter = DeadLetter(
        id="q:1-0", queue="q", name="a", reason="failed", error="", traceback="", attempts=1, deliveries=1,
        died_at_ms=1, body=codec.pack_envelope("a", b"\x91\xd4\x05\x01"),
    )  # fmt: skip
    assert [{"ext": 5, "base64": "AQ=="}] == dead_item(letter)["args"] == json.loads(export.line_of(letter))["args"]


async def test_every_letter_is_told_of_at_last(
    connect: Callable[[], OpenBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of several batches in a row the first has a line at once, and the others one at the end of the worker."""
    monkeypatch.setattr(limits, "DEAD_EXPORT_COUNT", 5)
    broker = connect()
    bury(broker, 22)
    stage = Stage(connect(), tmp_path)
    await stage.run_until(lambda: 20 == len(stage.names))
    assert [5, 15] == [line["letters"] for _, line in said(caplog, "dead letters exported")]
