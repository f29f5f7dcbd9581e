"""What is promised of the keys: every key in a server is in the table, with the type and the lifetime stated there."""

import re
from importlib import resources

import pytest
import redis
from redis.crc import key_slot
from redis_scenes import BODY, FREE, Open, dead, done, fetch, give_back, recover, retry, submit

from headrace.engine.broker.port import Submission
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.broker.views import Progress
from headrace.engine.redisio.keys import TABLE, Keys
from headrace.engine.redisio.scripts import script

SCRIPTS = sorted(
    path.name.removesuffix(".lua")
    for path in resources.files("headrace.engine.redisio").joinpath("lua").iterdir()
    if path.name.endswith(".lua")
)
#: Where a script changes what is in the key of that number: by a command, or by a function that is given the key. What
#: only concerns a stream's group is left out, and so is the removal of nothing, which is there for the server's sake.
WRITES = (
    r"call\(\s*'(?:X(?:ADD|DEL)|[SZ](?:ADD|REM\w*)|SET|DEL|P?EXPIRE|H(?:SET|DEL|INCRBY))', KEYS\[(\d+)\](?!, ''\))",
    r"\bkeep(?:_records)?\(KEYS\[(\d+)\]",
    r"\btake_off\(KEYS\[\d+\], KEYS\[\d+\], KEYS\[(\d+)\]",
)

pytestmark = pytest.mark.redis_core


def pattern(name: str) -> re.Pattern[str]:
    """Turn a name of the table into what it stands for, in the namespace `headrace` and for any queue."""
    text = name.format(namespace="headrace").replace("{Q}", "{QUEUE}")
    kinds = {r"\{QUEUE\}": r"\{[^{}]+\}", "HEAD": ".+", "ID": ".+", "TOKEN": ".+", "KEY": ".+"}
    return re.compile(re.sub("|".join(map(re.escape, kinds)), lambda hit: kinds[hit[0]], re.escape(text)))


def scenario(opened: Open) -> None:
    """Use everything that writes."""
    worker, other = opened("w1"), opened("w2")
    submit(worker, 8)
    submit(worker, 2, delay_ms=60_000, token="later")
    submit(worker, 1, delay_ms=1, token="soon")
    worker.publish("q", [Submission(BODY, unique="k", caller_id="mine")], "keyed", FREE)
    leases = fetch(worker)
    worker.settle([done(leases[0]), retry(leases[1]), give_back(leases[4])])
    worker.settle([dead(leases[place]) for place in (2, 3, 5)])
    recover(other)
    worker.dead_retry([leases[3].job_id])
    assert [True] == worker.dead_remove(worker.dead_beyond(["q"], 1, "w1"))
    worker.fleet_put("w1", b"report", 5.0)
    worker.promote(["q"])
    other.renew()
    worker.progress_put({leases[6].job_id: Progress(1, 2)})
    worker.cancel([view for view in worker.lookup([leases[6].job_id]) if view])


def test_every_key_is_in_the_table(opened: Open, client: redis.Redis) -> None:
    """After everything was used once, each key has a row, that row's type, and a TTL exactly where the row says so."""
    scenario(opened)
    seen = set()
    for key in (key.decode() for key in client.scan_iter()):
        rows = [rule for rule in TABLE if pattern(rule.name).fullmatch(key)]
        assert 1 == len(rows), f"{key} has {len(rows)} rows in the table"
        seen.add(rows[0].name)
        assert rows[0].type == client.type(key).decode(), key
        assert rows[0].expires == (client.pttl(key) > 0), key
    assert {rule.name for rule in TABLE} == seen


@pytest.mark.parametrize("name", SCRIPTS)
def test_who_writes_a_key_is_in_the_table(name: str) -> None:
    """Each script is named in the row of every key that it changes."""
    text = script(name).text.decode()
    rows = re.findall(r"^--\s+(?:KEYS)?\s+(\d+) (?:\{Q\}:)?(\w+)", text.partition("ARGV")[0], re.MULTILINE)
    own = dict(rows)
    names = [rule.name.removeprefix("{namespace}:").removeprefix("{{Q}}:").partition(":")[0] for rule in TABLE]
    writers = {key: rule.writers for key, rule in zip(names, TABLE, strict=True)}
    written = {own[number] for form in WRITES for number in re.findall(form, text)}
    assert [] == sorted(key for key in written if f"{name}.lua" not in writers[key])


def test_nothing_is_left_of_jobs_that_ended(opened: Open, client: redis.Redis) -> None:
    """A job that was delayed, retried and done leaves its result and its token, and no other trace."""
    worker = opened("w1")
    submit(worker, delay_ms=1)
    for settle in (lambda lease: retry(lease, 0), done):
        while not (leases := fetch(worker)):
            worker.promote(["q"])
        worker.settle([settle(lease) for lease in leases])
    left = {key.decode().split(":")[2] for key in client.scan_iter("headrace:{q}:*")}
    assert {"jobs", "workers", "meta", "result", "token", "events"} == left
    assert 0 == client.xlen("headrace:{q}:jobs")


def test_nothing_is_left_of_exported_letters(opened: Open, client: redis.Redis) -> None:
    """Where the last letter was exported there is neither a list of letters nor a letter."""
    worker = opened("w1")
    submit(worker, 3)
    worker.settle([dead(lease) for lease in fetch(worker)])
    assert [True] * 3 == worker.dead_remove(worker.dead_beyond(["q"], 0, "w1"))
    left = {key.decode().split(":")[2] for key in client.scan_iter("headrace:{q}:*")}
    assert set() == left & {"dead", "deadletter"}


def test_expired_letters_go_in_bounded_parts(opened: Open, client: redis.Redis) -> None:
    """A death and a look for letters to export drop at most a thousand expired ones each, and hand none of them out."""
    worker, listed = opened("w1"), "headrace:{q}:dead"
    submit(worker, 2)
    client.zadd(listed, {f"q:1-{number}": 1_000 for number in range(3_500)})
    client.set("headrace:{q}:deadletter:q:1-3499", "its time was longer once")
    leases = fetch(worker)
    worker.settle([dead(lease) for lease in leases])
    left = [client.zcard(listed)]
    for _ in range(3):
        assert [leases[0].job_id] == [letter.id for letter in worker.dead_beyond(["q"], 1, "w1")]
        left.append(client.zcard(listed))
    assert [2_502, 1_502, 502, 2] == left


def test_letters_are_exported_without_memory(opened: Open, client: redis.Redis) -> None:
    """At maxmemory 1 letters are still read and removed, since that is what makes room."""
    worker = opened("w1")
    submit(worker, 2)
    worker.settle([dead(lease) for lease in fetch(worker)])
    client.config_set("maxmemory", "1")
    try:
        assert [True] == worker.dead_remove(worker.dead_beyond(["q"], 1, "w1"))
    finally:
        client.config_set("maxmemory", "0")


def test_a_queue_has_one_slot() -> None:
    """All keys of a queue share a cluster slot."""
    keys = Keys("headrace").of("mail")
    names = [getattr(keys, field) for field in keys.__struct_fields__ if field not in {"queue", "name"}]
    assert 17 == len(names)
    assert 1 == len({key_slot(name) for name in names})


def test_namespaces_are_apart(opened: Open, client: redis.Redis) -> None:
    """Brokers of different namespaces share a server and see nothing of each other."""
    broker = RedisBroker(opened().url, namespace="staging")
    submit(broker)
    assert ["q"] == broker.queue_names()
    assert [] == opened().queue_names()
    assert {"staging"} == {key.decode().split(":")[0] for key in client.scan_iter()}
    broker.close()
