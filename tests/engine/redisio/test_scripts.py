"""What is promised of the Lua scripts: each says what it touches, has its hash, and is loaded when it is missing."""

import re
from importlib import resources

import pytest
import redis
from redis.exceptions import ResponseError
from redis_scenes import Open, dead, done, fetch, give_back, retry, submit

from headrace.engine.redisio.address import parse_address
from headrace.engine.redisio.connections import Wire
from headrace.engine.redisio.scripts import run, script
from headrace.jobs.states import State
from servers import Server

NAMES = sorted(
    path.name.removesuffix(".lua")
    for path in resources.files("headrace.engine.redisio").joinpath("lua").iterdir()
    if path.name.endswith(".lua")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_says_what_it_touches(name: str) -> None:
    """A script opens with what it does, its keys, its arguments and what it returns, and uses no key beyond those."""
    text = script(name).text.decode()
    head = "\n".join(line for line in text.splitlines() if line.startswith("--"))
    keys = {int(number) for number in re.findall(r"KEYS\[(\d+)\]", text)}
    rows = re.findall(r"^--\s+(?:KEYS)?\s+(\d+) ", head.partition("ARGV")[0], re.MULTILINE)
    described = {int(number) for number in rows}
    assert keys
    assert keys == described
    assert "ARGV" in head
    assert "Returns" in head


@pytest.mark.redis_core
@pytest.mark.parametrize("name", NAMES)
def test_a_script_compiles_under_its_hash(client: redis.Redis, name: str) -> None:
    """The server reads the script and gives it the hash by which we call it."""
    assert script(name).sha1 == client.execute_command("SCRIPT LOAD", script(name).text).encode()


@pytest.mark.redis_core
def test_a_missing_script_is_loaded_within_a_batch(opened: Open, client: redis.Redis) -> None:
    """After SCRIPT FLUSH a batch of several scripts is carried out whole, each call once."""
    worker = opened("w1")
    job_ids = submit(worker, 5)
    first, second, third, fourth, fifth = fetch(worker)
    client.script_flush()
    batch = [done(first), retry(second), dead(third), give_back(fourth), done(fifth)]
    assert 0 == worker.settle(batch)
    states = [view.state for view in worker.lookup(job_ids) if view]
    assert [State.SUCCEEDED, State.RETRYING, State.DEAD, State.QUEUED, State.SUCCEEDED] == states


@pytest.mark.redis_core
def test_only_what_failed_is_sent_again(server: Server, client: redis.Redis) -> None:
    """In a batch with one missing script the other commands run once, and replies keep their places."""
    wire = Wire(parse_address(server.unix_url), "test")
    client.script_flush()
    renew = script("renew").call((b"headrace:{q}:workers",), "nobody", 1000)
    assert [1, 0, 2] == run(wire, [(b"INCR", b"n"), renew, (b"INCR", b"n")])
    wire.close()


@pytest.mark.redis_core
def test_a_refused_command_leaves_the_others(server: Server) -> None:
    """The error of one command stands in its place, and the connection goes on."""
    wire = Wire(parse_address(server.unix_url), "test")
    one, refused, other = run(wire, [(b"INCR", b"n"), (b"NONSENSE",), (b"INCR", b"n")])
    assert (1, 2) == (one, other)
    assert isinstance(refused, ResponseError)
    assert [3] == run(wire, [(b"INCR", b"n")])
    wire.close()
