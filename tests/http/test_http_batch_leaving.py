"""What becomes of a batch whose client goes away, or goes on sending, while it waits for room in a full queue."""

import json
from collections import deque
from typing import Any

import anyio
import pytest

from headrace.config.settings import HttpSettings, Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.port import Registration
from headrace.engine.http.app import make_app
from headrace.engine.http.bodies import AHEAD_MAX_BYTES
from headrace.engine.http.gateway import Gateway
from headrace.jobs import codec

pytestmark = pytest.mark.anyio
DEADLINE_S = 20  #: far less than the 60 s for which room is waited for
GONE = {"type": "http.disconnect"}


class Caller:
    """A client of the API, message by message."""

    def __init__(self, broker: MemoryBroker, length: int, http: HttpSettings | None = None) -> None:
        gateway = Gateway(broker, Settings(max_queue_length=length, http=http or HttpSettings()))
        self.sent: deque[dict[str, Any]] = deque()
        self.answer = bytearray()
        self.status = 0
        self._app: Any = make_app(gateway)
        self._news = anyio.Event()

    def send(self, content: bytes, *, more: bool) -> None:
        """Have a piece of the body arrive."""
        self._put({"type": "http.request", "body": content, "more_body": more})

    def leave(self) -> None:
        """Go away."""
        self._put(GONE)

    async def ask(self) -> None:
        """Make the request; returns once it is answered."""
        headers = [(b"host", b"127.0.0.1:8787"), (b"content-type", b"application/x-ndjson")]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1/jobs/batch", "raw_path": b"/v1/jobs/batch", "query_string": b"", "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8787), "state": {},
        }  # fmt: skip
        await self._app(scope, self._receive, self._noted)

    def report(self) -> Any:
        """Return what it was answered."""
        return json.loads(bytes(self.answer))

    def _put(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self._news.set()

    async def _receive(self) -> dict[str, Any]:
        while not self.sent:
            self._news = anyio.Event()
            await self._news.wait()
        return GONE if self.sent[0] is GONE else self.sent.popleft()

    async def _noted(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.answer += message.get("body", b"")


def lines(first: int, count: int, size: int = 0) -> bytes:
    """Return jobs, a line each, in whose names is their number."""
    numbers = range(first, first + count)
    return b"".join(b'{"name":"n%d","args":["%b"]}\n' % (number, b"x" * size) for number in numbers)


async def work(broker: MemoryBroker, taken: list[str], count: int) -> None:
    """Take jobs out of the queue until there were so many, and note their names."""
    broker.register(Registration("w", ("default",), 60.0))
    while len(taken) < count:
        taken += [codec.unpack_envelope(lease.body).name for lease in broker.fetch({"default": 10}, 0.0)]
        await anyio.sleep(0.005)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_client_that_leaves_is_not_waited_for(whole: bool) -> None:
    """Its batch ends, with its body all there or not; what was taken in stays, and room that comes later stays free."""
    broker = MemoryBroker()
    caller = Caller(broker, 3)
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.ask)
            caller.send(lines(0, 3), more=True)
            caller.send(lines(3, 1400), more=not whole)
            await anyio.wait_all_tasks_blocked()
            assert 3 == broker.queues(["default"])[0].queued
            caller.leave()
    assert 3 == broker.queues(["default"])[0].queued
    report = caller.report() if whole else caller.report()["batch"]
    assert (202 if whole else 400, 3, 1400) == (caller.status, report["accepted"], len(report["rejected"]))
    assert {"QueueFull"} == {each["error_name"] for each in report["rejected"]}


async def test_what_arrives_while_room_is_waited_for_is_taken_in_its_order() -> None:
    """Pieces that come meanwhile, cut anywhere, are read once there is room, and none is lost."""
    broker, taken = MemoryBroker(), list[str]()
    caller = Caller(broker, 7)
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.ask)
            caller.send(lines(0, 600, 10), more=True)
            await anyio.wait_all_tasks_blocked()
            later = lines(600, 500, 10)
            for first in range(0, len(later), 777):
                caller.send(later[first : first + 777], more=first + 777 < len(later))
                await anyio.wait_all_tasks_blocked()
            assert not caller.sent
            group.start_soon(work, broker, taken, 1100)
    assert [f"n{number}" for number in range(1100)] == taken
    assert (202, 1100, []) == (caller.status, caller.report()["accepted"], caller.report()["rejected"])


async def test_no_more_is_held_than_the_bound() -> None:
    """A client that sends on is read no further than a few pieces, until there is room."""
    broker, taken, piece_bytes = MemoryBroker(), list[str](), 50_000
    caller = Caller(broker, 7)
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.ask)
            caller.send(lines(0, 600), more=True)
            await anyio.wait_all_tasks_blocked()
            for number in range(40):
                caller.send(lines(600 + number, 1, piece_bytes), more=number < 39)
            await anyio.wait_all_tasks_blocked()
            held = 40 - len(caller.sent)
            assert 0 < held <= AHEAD_MAX_BYTES // piece_bytes + 1
            group.start_soon(work, broker, taken, 640)
    assert [f"n{number}" for number in range(640)] == taken
    assert (202, 640) == (caller.status, caller.report()["accepted"])


async def test_a_body_that_stands_still_while_room_is_waited_for_is_too_slow() -> None:
    """It is told so once it is read on, and its jobs before that stay."""
    broker, taken = MemoryBroker(), list[str]()
    caller = Caller(broker, 7, HttpSettings(body_timeout_s=0.05))
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.ask)
            caller.send(lines(0, 600), more=True)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(work, broker, taken, 600)
    assert (408, 600) == (caller.status, caller.report()["batch"]["accepted"])
