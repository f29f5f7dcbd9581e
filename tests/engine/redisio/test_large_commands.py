"""Commands of many megabytes: they get the time that their bytes take, and not the patience of a small reply."""

import signal
import threading
from pathlib import Path

import pytest

from headrace.engine.redisio import connections
from headrace.engine.redisio.address import parse_address
from headrace.engine.redisio.connections import Wire
from headrace.jobs.errors import BrokerUnavailable
from servers import start_valkey


def test_a_large_command_is_waited_for_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is slow to take 16 MB is waited for, however short a reply may take; for small ones it is not."""
    monkeypatch.setattr(connections, "REPLY_TIMEOUT_S", 0.3)
    with start_valkey(tmp_path) as server:
        wire = Wire(parse_address(server.url), "test")
        assert [b"PONG"] == wire.exchange([(b"PING",)])
        server.process.send_signal(signal.SIGSTOP)
        timer = threading.Timer(0.8, server.process.send_signal, (signal.SIGCONT,))
        timer.start()
        try:
            assert [b"OK"] == wire.exchange([(b"SET", b"large", bytes(16 << 20))])
        finally:
            timer.join()
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(BrokerUnavailable):  # the patience for the large one is not kept
                wire.exchange([(b"PING",)])
        finally:
            server.process.send_signal(signal.SIGCONT)
        wire.close()
