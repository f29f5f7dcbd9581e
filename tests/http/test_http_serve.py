"""The API as a process: bound to loopback, announced, asked over real connections, and ended by a signal."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace import ConfigError, HeadraceError
from headrace.config.settings import Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.http.gateway import Gateway
from headrace.engine.http.serve import bind_address, listen, serve
from servers import start_valkey

DEADLINE_S = 30
PROGRAM = """
import sys
from headrace import HeadraceError
from headrace.engine.http.serve import serve
try:
    serve(url=sys.argv[1], drain_timeout=1, http={"port": int(sys.argv[2])})
except HeadraceError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def start(url: str, port: int, folder: Path) -> subprocess.Popen[str]:
    """Start a process that serves; the caller ends it."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, str(port)],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A serving process, its address, and its broker's."""
    with start_valkey(tmp_path) as server:
        process = start(server.url, 0, tmp_path)
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("headrace: the API is at http://127.0.0.1:")
            yield process, line.split()[-1], server.url
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def test_it_serves_until_a_signal(served: tuple[subprocess.Popen[str], str, str], tmp_path: Path) -> None:
    """It answers, keeps its port from a second (exit code 2), and exits 0 at SIGTERM after answering who waits."""
    process, url, broker = served
    taken = start(broker, int(url.rpartition(":")[2]), tmp_path)
    _, said = taken.communicate(timeout=DEADLINE_S)
    assert (2, True) == (taken.returncode, "in use" in said)
    answers: list[int] = []
    with httpx.Client(base_url=url, timeout=DEADLINE_S) as client:
        form = {"content-type": "application/x-www-form-urlencoded"}
        response = client.post("/v1/jobs", content=b'{"name":"add","args":[1,2]}', headers=form)
        assert 202 == response.status_code
        job_id = response.json()["id"]
        assert "add" == client.get(f"/v1/jobs/{job_id}").json()["name"]
        assert "ok" == client.get("/healthz").json()["status"]
        lines = (b'{"name":"add"}\n' * 100 for _ in range(20))
        batch = client.post("/v1/jobs/batch", content=lines, headers={"content-type": "application/x-ndjson"})
        assert 2000 == batch.json()["accepted"]
        assert 2001 == client.get("/v1/stats").json()["queues"]["default"]["queued"]
        path = f"{url}/v1/jobs/{job_id}/result?wait_s=50"
        waiter = threading.Thread(target=lambda: answers.append(httpx.get(path, timeout=DEADLINE_S).status_code))
        asked_before = _asked(broker)
        waiter.start()
        ends_s = time.monotonic() + DEADLINE_S
        while _asked(broker) == asked_before:
            assert time.monotonic() < ends_s
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(DEADLINE_S)
        waiter.join(DEADLINE_S)
    assert [202] == answers


def test_a_request_that_never_ends_is_cut_short(served: tuple[subprocess.Popen[str], str, str]) -> None:
    """A client that drips its body holds a stop up for drain_timeout, and the exit code is 0 all the same."""
    process, url, _ = served
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as dripping:
        dripping.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
            b"content-type: application/json\r\ncontent-length: 100\r\n\r\n"
        )
        assert dripping.recv(100).startswith(b"HTTP/1.1 100 ")  # the route has begun to read
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(DEADLINE_S)


def test_a_server_that_cannot_start_says_so() -> None:
    """Where the port is taken between the look and the start, the error is headrace's own and names the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = Gateway(MemoryBroker(), Settings())
        with pytest.raises(HeadraceError, match="ended by itself"):
            listen(gateway, "127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_tokens_it_binds_loopback_only(host: str) -> None:
    """An address that other machines reach is a configuration error that says how to get tokens; with them not."""
    with pytest.raises(ConfigError, match=r"http\.host .*headrace token new"):
        bind_address(host, has_tokens=False)
    assert host == bind_address(host, has_tokens=True)


@pytest.mark.parametrize("has_tokens", [True, False])
@pytest.mark.parametrize("host", ["example.org", "", "127.0.0.1:1"])
def test_it_binds_addresses_and_no_names(host: str, has_tokens: bool) -> None:
    """What is no address is a configuration error, with and without tokens."""
    with pytest.raises(ConfigError, match=r"http\.host .* is no address"):
        bind_address(host, has_tokens=has_tokens)


def test_names_of_loopback_are_addresses() -> None:
    """The usual names of this machine are taken."""
    assert ["127.0.0.1", "127.0.0.9", "::1", "::1"] == [
        bind_address(host, has_tokens=False) for host in ("localhost", "127.0.0.9", "::1", "[::1]")
    ]


def test_what_cannot_be_served_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker inside this process, an open address, a lone certificate, a missing extra are configuration errors."""
    with pytest.raises(ConfigError, match="memory://"):
        serve(url="memory://")
    with pytest.raises(ConfigError, match=r"http\.host"):
        serve(url="redis://127.0.0.1:1/0", http={"host": "0.0.0.0"})
    with pytest.raises(ConfigError, match=r"http\.tls_key is missing"):
        serve(url="redis://127.0.0.1:1/0", http={"tls_cert": "cert.pem"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"headrace\[server\]"):
        serve(url="redis://127.0.0.1:1/0")


def test_importing_it_loads_no_server() -> None:
    """Without the extra the package can be imported: nothing of Litestar or granian is loaded before `serve` runs."""
    program = (
        "import sys, headrace.engine.http, headrace.engine.http.serve; "
        "sys.exit(bool({'litestar', 'granian'} & set(sys.modules)))"
    )
    assert 0 == subprocess.run([sys.executable, "-c", program], check=False, timeout=DEADLINE_S).returncode


def _asked(broker: str) -> int:
    """Return how often the broker was asked for results by who waits for them: nobody else asks with MGET."""
    import redis

    with redis.Redis.from_url(broker) as client:
        calls: int = client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0)
        return calls
