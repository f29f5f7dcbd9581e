"""What /healthz and /readyz find out: workers frozen or blocked, a loop that stands still, what is not ready."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from headrace.config.settings import Settings
from headrace.engine.broker.courier import Courier
from headrace.engine.broker.memory import Fault, MemoryBroker
from headrace.engine.broker.open import open_broker
from headrace.engine.http import vitals as vitals_module
from headrace.engine.http.app import make_app
from headrace.engine.http.gateway import Gateway
from headrace.engine.http.vitals import Vitals
from headrace.jobs.errors import BrokerUnavailable
from http_scene import asking, asking_app, publish
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
DEADLINE_S = 30
#: A worker whose reports are missed after a second, with a handler that blocks its loop.
WORKER = """
import sys, time
import anyio
from headrace import Engine
from headrace.engine.loops import upkeep
upkeep.REPORT_TTL_S, upkeep.REPORT_EVERY_S = 1.0, 0.1
engine = Engine(sys.argv[1], slots=1)

@engine.job
async def block():
    time.sleep(60)

anyio.run(engine.run)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    with start_valkey(tmp_path) as server:
        yield server


@pytest.fixture
def worker(server: Server, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker process."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, server.url], cwd=tmp_path, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until(client: Any, path: str, expected: int, **fields: Any) -> dict[str, Any]:
    """Ask until the answer is the expected one; return it."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            response = await client.get(path)
            found: dict[str, Any] = response.json()
            if response.status_code == expected and fields.items() <= found.items():
                return found
            await anyio.sleep(0.05)


async def test_a_frozen_worker_is_noticed_and_so_is_its_thaw(server: Server, worker: "subprocess.Popen[bytes]") -> None:
    """A worker stopped by SIGSTOP makes /healthz fail though its process is there; continued, all is well again."""
    broker = open_broker(server.url)
    async with asking(broker) as client:
        await until(client, "/healthz", 200, workers=1)
        os.kill(worker.pid, signal.SIGSTOP)
        found = await until(client, "/healthz", 503)
        assert ("stalled", ["default"], 1) == (found["status"], found["stalled_queues"], len(found["silent_workers"]))
        os.kill(worker.pid, signal.SIGCONT)
        assert [] == (await until(client, "/healthz", 200, workers=1))["silent_workers"]
        worker.send_signal(signal.SIGTERM)
        await until(client, "/healthz", 200, workers=0, silent_workers=[])
    broker.close()


async def test_a_worker_with_a_blocked_loop_is_noticed(server: Server, worker: "subprocess.Popen[bytes]") -> None:
    """A handler that blocks its worker's loop makes /healthz fail, while the worker's heartbeat goes on."""
    broker = open_broker(server.url)
    async with asking(broker) as client:
        await until(client, "/healthz", 200, workers=1)
        assert 202 == (await client.post("/v1/jobs", json={"name": "block"})).status_code
        found = await until(client, "/healthz", 503)
        assert ("stalled", ["default"], 0) == (found["status"], found["stalled_queues"], found["workers"])
        assert 1 == broker.queues(["default"])[0].workers
    broker.close()


async def test_a_silent_worker_whose_queues_others_read_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """One killed worker of two is named, and the queue that both read is well; one that was stopping is not named."""
    broker = MemoryBroker()
    publish(broker, "w1", queues=("a",))
    for worker, fields in (("w2", {}), ("w3", {"stopping": True})):
        publish(broker, worker, queues=("a", "b") if worker == "w2" else ("c",), **fields)
        broker.fleet_put(worker, broker.fleet()[worker], -1.0)
    async with asking(broker) as client:
        found = (await client.get("/healthz")).json()
        assert (["b"], ["w2"]) == (found["stalled_queues"], found["silent_workers"])
        publish(broker, "w4", queues=("b",))
        monkeypatch.setattr(vitals_module, "LOOK_TTL_S", 0.0)
        assert 200 == (await client.get("/healthz")).status_code


async def test_a_block_of_the_servers_own_loop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the loop that serves stood still for long, /healthz fails for a while; then it is forgotten."""
    monkeypatch.setattr(vitals_module, "LAG_MAX_S", 0.3)
    monkeypatch.setattr(vitals_module, "LAG_TOLD_S", 1.0)
    gateway = Gateway(MemoryBroker(), Settings())
    async with asking_app(make_app(gateway)) as client, anyio.create_task_group() as group:
        group.start_soon(gateway.vitals.watch.lag.run)
        with anyio.fail_after(DEADLINE_S):
            while (await client.get("/healthz")).json()["loop_lag_ms"] is None:
                await anyio.sleep(0.01)
        time.sleep(0.6)  # noqa: ASYNC251 - this is the fault
        found = (await client.get("/healthz")).json()
        assert ("blocked", True) == (found["status"], found["loop_lag_ms"] >= 300)
        await until(client, "/healthz", 200)
        group.cancel_scope.cancel()


async def test_all_is_ready_or_what_is_not_is_named(server: Server) -> None:
    """With the server there all parts are ready, scripts that it forgot are loaded; away, the broker is named."""
    broker = open_broker(server.url)
    client_of_server = redis.Redis.from_url(server.url)
    async with asking(broker) as client:
        ready = {"status": "ready", "pool": "ready", "broker": "ready", "scripts": "ready"}
        assert (200, ready) == ((response := await client.get("/readyz")).status_code, response.json())
        client_of_server.script_flush()
        assert 200 == (await client.get("/readyz")).status_code
        await anyio.to_thread.run_sync(server.stop)
        response = await client.get("/readyz")
        assert (503, "unready", "ready") == (response.status_code, response.json()["status"], response.json()["pool"])
        assert server.url.rpartition("/")[0] in response.json()["broker"]
        with anyio.fail_after(DEADLINE_S):  # what was known may be used for a second
            while 503 != (await client.get("/healthz")).status_code:
                await anyio.sleep(0.05)
        await anyio.to_thread.run_sync(server.start)
        await until(client, "/readyz", 200)
    client_of_server.close()
    broker.close()


async def test_a_server_that_takes_no_scripts_is_not_ready(server: Server) -> None:
    """Where the user of the url may not load scripts, they are named, and the broker is ready."""
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "&*", "+@all", "-script")
    broker = open_broker(server.url.replace("redis://", "redis://plain:secret@"))
    async with asking(broker) as client:
        response = await client.get("/readyz")
    assert (503, "ready") == (response.status_code, response.json()["broker"])
    assert ("ready" != response.json()["scripts"], False) == (True, "secret" in response.text)
    broker.close()


async def test_threads_that_are_all_taken_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no thread is free to ask the server, the pool is named, within the time that a probe has."""
    monkeypatch.setattr(vitals_module, "READY_WITHIN_S", 0.1)
    free, courier = threading.Event(), Courier(waits=True)
    vitals = Vitals(MemoryBroker(), courier)
    async with anyio.create_task_group() as group:
        group.start_soon(courier.call, free.wait)
        await anyio.wait_all_tasks_blocked()
        found = await vitals.readiness()
        free.set()
    assert ("unready", True, True) == (found.status, "no thread" in found.pool, "not known" in found.broker)
    assert "ready" == (await vitals.readiness()).status


async def test_a_fault_of_the_broker_is_not_ready() -> None:
    """What the broker says of itself is the answer."""
    broker = MemoryBroker()
    broker.faults.append(Fault("queue_names", "before"))
    async with asking(broker) as client:
        response = await client.get("/readyz")
        assert (503, True) == (response.status_code, "send it again" in response.json()["broker"])
        broker.faults.append(Fault("prepare", "before"))
        response = await client.get("/readyz")
        assert (503, "ready") == (response.status_code, response.json()["broker"])
        assert 200 == (await client.get("/readyz")).status_code


class Hanging(MemoryBroker):
    """A broker that waits for a server which hangs; it answers once it is freed."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.free, self.ended, self.asked_count = threading.Event(), threading.Event(), 0

    def queue_names(self) -> list[str]:
        """Wait, and answer."""
        self.asked_count += 1
        self.free.wait()
        self.ended.set()
        return super().queue_names()

    def fleet(self) -> dict[str, bytes]:
        """Wait, and answer."""
        self.asked_count += 1
        self.free.wait()
        return super().fleet()


async def test_a_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the deadline the answer is that it is not ready, though the verb goes on; its late success is not told."""
    monkeypatch.setattr(vitals_module, "READY_WITHIN_S", 0.1)
    broker = Hanging()
    vitals = Vitals(broker, Courier(waits=True))
    try:
        found = await vitals.readiness()
        assert ("unready", "ready", "no answer in time") == (found.status, found.pool, found.broker)
        with pytest.raises(BrokerUnavailable, match="no answer"):
            await vitals.health()
        assert not broker.ended.is_set()
    finally:
        broker.free.set()
    await anyio.to_thread.run_sync(broker.ended.wait)
    assert ("unready", "no answer in time") == (found.status, found.broker)
    monkeypatch.setattr(vitals_module, "READY_WITHIN_S", DEADLINE_S)
    assert "ready" == (await vitals.readiness()).status
    assert "ok" == (await vitals.health()).status


async def test_many_who_ask_are_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who ask while a look is under way share it, and for a second after it nobody looks at the fleet."""
    monkeypatch.setattr(vitals_module, "READY_WITHIN_S", DEADLINE_S)
    monkeypatch.setattr(vitals_module, "LOOK_TTL_S", DEADLINE_S)
    broker = Hanging()
    vitals = Vitals(broker, Courier(waits=True))
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(vitals.readiness)
            group.start_soon(vitals.health)
        await anyio.wait_all_tasks_blocked()
        broker.free.set()
    assert "ok" == (await vitals.health()).status
    assert 2 == broker.asked_count


async def test_reads_that_take_all_threads_do_not_hold_up_health() -> None:
    """While every thread of requests is taken, /healthz answers."""
    free, courier = threading.Event(), Courier(waits=True)
    broker = Hanging()
    broker.free.set()
    vitals = Vitals(broker, courier)
    async with anyio.create_task_group() as group:
        group.start_soon(courier.call, free.wait)
        await anyio.wait_all_tasks_blocked()
        try:
            assert "ok" == (await vitals.health()).status
        finally:
            free.set()
