"""docs/protocol.md and its vectors: what headrace writes and reads is what any msgpack library reads and writes."""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
import redis

from checkout import ROOT
from headrace.engine.broker.port import Source
from headrace.engine.broker.redis_entries import lease_of
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions, Malformed, ResultRecord
from headrace.jobs.disposition import DeadLetter, pack_letter, unpack_letter
from headrace.jobs.outcome import Failure
from servers import Server, start_valkey

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
URL = "redis://localhost:6379/0"


def of_kind(*kinds: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS if vector["kind"] in kinds]


def data_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["hex"])


def meant(value: Any) -> Any:
    """Return a vector's value with its bytes and times."""
    if isinstance(value, dict):
        if value.keys() == {"$bytes"}:
            return bytes.fromhex(value["$bytes"])
        if value.keys() == {"$time"}:
            return datetime.fromisoformat(value["$time"])
        return {key: meant(item) for key, item in value.items()}
    return [meant(item) for item in value] if isinstance(value, list) else value


def ours(vector: dict[str, Any]) -> bytes:
    """Return what headrace writes for a vector's value."""
    value = meant(vector["value"])
    if vector["kind"] == "envelope":
        _, name, args, kwargs, options = value
        return codec.pack_foreign(name, args, kwargs, None if options is None else EnvelopeOptions(**options))
    if vector["kind"] == "letter":
        return pack_letter(DeadLetter(**value))
    failure = None if value[3] is None else Failure(**value[3] | {"ancestors": tuple(value[3]["ancestors"])})
    return codec.pack_record(
        ResultRecord(*value[:2], msgspec.Raw(msgspec.msgpack.encode(value[2])), failure, *value[4:])
    )


def read(kind: str, data: bytes) -> Any:
    """Return what headrace reads, as plain data."""
    if kind == "letter":
        return msgspec.to_builtins(unpack_letter(data), builtin_types=(bytes,))
    if kind == "record":
        record = codec.unpack_record(data)
        failure = msgspec.to_builtins(record.failure)
        if failure is not None:
            failure["ancestors"] = list(failure["ancestors"])
        items = [record.version, record.status, codec.plain_value(record.value), failure,
                 *(getattr(record, name) for name in record.__struct_fields__[4:])]  # fmt: skip
        return items if record.interruptions else items[:-1]  # which is left out where it says nothing
    envelope = codec.unpack_envelope(data)
    options = None if envelope.options is None else msgspec.to_builtins(envelope.options)
    return [
        envelope.version,
        envelope.name,
        codec.plain_value(envelope.args),
        codec.plain_value(envelope.kwargs),
        options,
    ]


GOOD = of_kind("envelope", "record", "letter")


@pytest.mark.parametrize("vector", GOOD)
def test_headrace_writes_and_reads_the_vectors(vector: dict[str, Any]) -> None:
    """Each value is written as its bytes, and each vector's bytes are read as its value."""
    assert vector["hex"] == ours(vector).hex()
    assert meant(vector["value"]) == read(vector["kind"], data_of(vector))


@pytest.mark.parametrize("vector", GOOD)
def test_msgpack_reads_what_headrace_writes(vector: dict[str, Any]) -> None:
    """The msgpack library reads our bytes as the same value, at once and as a stream."""
    wanted = meant(vector["value"])
    assert wanted == msgpack.unpackb(ours(vector), timestamp=3)
    unpacker = msgpack.Unpacker(timestamp=3)
    seen = []
    for byte in data_of(vector) + data_of(vector):
        unpacker.feed(bytes([byte]))
        seen += list(unpacker)
    assert [wanted, wanted] == seen


@pytest.mark.parametrize("vector", GOOD)
def test_headrace_reads_what_msgpack_writes(vector: dict[str, Any]) -> None:
    """What the msgpack library writes for a value is read as that value; it is the same bytes."""
    theirs = msgpack.packb(meant(vector["value"]), datetime=True)
    assert meant(vector["value"]) == read(vector["kind"], theirs)
    assert vector["hex"] == theirs.hex()


@pytest.mark.parametrize("vector", of_kind("malformed"))
def test_bad_vectors_are_malformed(vector: dict[str, Any]) -> None:
    """What the page calls malformed is."""
    with pytest.raises(Malformed):
        codec.unpack_envelope(data_of(vector))


@pytest.mark.parametrize("vector", of_kind("fields"))
def test_plain_fields_are_their_envelope(vector: dict[str, Any]) -> None:
    """Plain fields mean the envelope that the vector gives."""
    fields = {name.encode(): text.encode() for name, text in vector["fields"].items()}
    assert vector["hex"] == codec.envelope_from_fields(fields).hex()


def test_the_page_shows_the_vectors() -> None:
    """Every vector is on the page under its name, and no other bytes are."""
    shown = dict(re.findall(r"^\| ([^|]+) \| [^|]+ \| `([0-9a-f]{8,})` \|$", PAGE, re.MULTILINE))
    assert {vector["name"]: vector["hex"] for vector in VECTORS if vector["kind"] != "fields"} == shown


def test_the_page_takes_a_job_apart() -> None:
    """The bytes that the page explains one by one are those of the vector that it names."""
    (block,) = re.findall(r"```text\n(95 .*?)```", PAGE, re.DOTALL)
    explained = "".join(re.match(r"(?:[0-9a-f]{2} )+", line)[0] for line in block.splitlines())  # type: ignore[index]
    wanted = next(vector["hex"] for vector in VECTORS if vector["name"] == "two numbers")
    assert wanted == explained.replace(" ", "")


def table(heading: str) -> list[str]:
    """Return the first column of the first table behind a heading."""
    behind = PAGE.split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"((?:^\|.*\n)+)", behind, re.MULTILINE)
    assert rows is not None
    return [row.split("|")[1].strip(" `") for row in rows[1].splitlines()[2:]]


def test_the_page_names_every_field() -> None:
    """Options, failures, dead letters and plain fields have a row for each field, and no row more."""
    assert list(EnvelopeOptions.__struct_fields__) == table("### Options")
    assert list(Failure.__struct_fields__) == table("A failure is a map:")
    assert set(DeadLetter.__struct_fields__) == set(table("## Dead letter"))
    assert {name.decode() for name in codec.FIELDS} == set(table("**Plain**: fields of text."))
    assert [str(n) for n, _ in enumerate(ResultRecord.__struct_fields__)] == table("## Result record")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_valkey(tmp_path_factory.mktemp("protocol")) as server:
        yield server


def jobs_in(client: redis.Redis) -> list[tuple[str, str, Any, Any, EnvelopeOptions | None]]:
    """Return the jobs that a worker would read, and empty the queue."""
    key = "headrace:{default}:jobs"
    found = []
    for entry, fields in client.xrange(key):
        lease = lease_of(Source("default", "w"), entry, [part for pair in fields.items() for part in pair])
        assert lease.problem is None
        envelope = codec.unpack_envelope(lease.body)
        found.append((
            lease.job_id, envelope.name, codec.plain_value(envelope.args), codec.plain_value(envelope.kwargs),
            envelope.options,
        ))  # fmt: skip
    client.delete(key)
    return found


def test_the_command_line_on_the_page_adds_a_job(server: Server) -> None:
    """The XADD of the page adds the job that it says, and the reply makes its id."""
    (line,) = re.findall(r"^\$ redis-cli -u \S+ (XADD .*)$", PAGE, re.MULTILINE)
    with redis.Redis.from_url(server.url) as client:
        entry = client.execute_command(*shlex.split(line))
        assert [(f"default:{entry.decode()}", "add", [1, 2], {}, None)] == jobs_in(client)


def test_the_python_on_the_page_adds_jobs(server: Server) -> None:
    """Both Python examples run as they stand, and add the jobs that they say."""
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    plain, packed = [{}, {}]  # type: dict[str, Any], dict[str, Any]
    with redis.Redis.from_url(server.url) as client:
        for example, names in zip(examples, (plain, packed), strict=True):
            assert URL in example
            exec(example.replace(URL, server.url), names)
            names["server"].close()
        assert [
            (plain["job_id"], "add", [1, 2], {}, None),
            (f"default:{packed['entry'].decode()}", "add", [1, 2], {}, EnvelopeOptions(timeout_s=1.5, attempts=3)),
        ] == jobs_in(client)
