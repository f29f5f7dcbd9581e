"""What goes out: tags, answers that are not sent again, and compression."""

import gzip
import json
import sys

import httpx
import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.http.answers import is_known
from headrace.engine.http.coding import coding_for, compress
from http_scene import asking, publish

pytestmark = pytest.mark.anyio


async def fetched(client: httpx.AsyncClient, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """Return an answer and its body as it travelled."""
    async with client.stream("GET", path, headers={"accept-encoding": "identity", **headers}) as response:
        return response, b"".join([piece async for piece in response.aiter_raw()])


@pytest.mark.parametrize("path", ["/v1/queues", "/v1/dead", "/openapi.json", "/v1/jobs"])
async def test_what_is_known_is_not_sent_again(path: str) -> None:
    """A reading answer has a tag; asked with it again, 304 and no body; once it is another, 200 and another tag."""
    async with asking(MemoryBroker()) as client:
        response = await client.get(path)
        tag = response.headers["etag"]
        again = await client.get(path, headers={"if-none-match": f'"other", {tag}'})
        assert (304, b"", tag) == (again.status_code, again.content, again.headers["etag"])
        assert "content-type" not in again.headers
        if path in {"/v1/queues", "/v1/jobs"}:
            await client.post("/v1/jobs", json={"name": "add"})
            third = await client.get(path, headers={"if-none-match": tag})
            assert 200 == third.status_code
            assert tag != third.headers["etag"]


async def test_a_job_has_a_tag() -> None:
    """A job's record is not sent again while nothing has become of it, and is once it was cancelled."""
    async with asking(MemoryBroker()) as client:
        job_id = (await client.post("/v1/jobs", json={"name": "add"})).json()["id"]
        tag = (await client.get(f"/v1/jobs/{job_id}")).headers["etag"]
        assert 304 == (await client.get(f"/v1/jobs/{job_id}", headers={"if-none-match": tag})).status_code
        await client.post(f"/v1/jobs/{job_id}/cancel")
        assert 200 == (await client.get(f"/v1/jobs/{job_id}", headers={"if-none-match": tag})).status_code


async def test_figures_and_errors_have_no_tag() -> None:
    """What is another each time, and what is no success, has no tag."""
    async with asking(MemoryBroker()) as client:
        for path in ("/v1/stats", "/v1/workers", "/healthz", "/v1/jobs/nonsense"):
            assert "etag" not in (await client.get(path)).headers


async def test_large_documents_are_compressed() -> None:
    """From 1 KiB on a document is packed as the client takes it, and the same document; the tag is the same."""
    broker = MemoryBroker()
    for number in range(20):
        publish(broker, f"worker-{number}")
    async with asking(broker) as client:
        plain, travelled = await fetched(client, "/openapi.json")
        assert ("accept-encoding", None) == (plain.headers["vary"], plain.headers.get("content-encoding"))
        packed, short = await fetched(client, "/openapi.json", **{"accept-encoding": "br, gzip;q=0.5"})
        assert ("gzip", str(len(short))) == (packed.headers["content-encoding"], packed.headers["content-length"])
        assert travelled == gzip.decompress(short)
        assert len(short) * 5 < len(travelled)
        assert plain.headers["etag"] == packed.headers["etag"]
        modern, shorter = await fetched(client, "/openapi.json", **{"accept-encoding": "gzip, deflate, br, zstd"})
        assert ("zstd", str(len(shorter))) == (modern.headers["content-encoding"], modern.headers["content-length"])
        assert travelled == zstd.decompress(shorter)
        assert plain.headers["etag"] == modern.headers["etag"]
        small, _ = await fetched(client, "/v1/queues", **{"accept-encoding": "gzip"})
        assert "content-encoding" not in small.headers


async def test_many_ids_are_compressed() -> None:
    """The ids of a large batch are compressed too, as one piece or, where there are many, in pieces."""
    async with asking(MemoryBroker()) as client:
        for count in (5_000, 20_000):
            lines = b'{"name": "add"}\n' * count
            for accepted, unpack in (("gzip", gzip.decompress), ("zstd", zstd.decompress), ("identity", bytes)):
                headers = {"content-type": "application/x-ndjson", "accept-encoding": accepted}
                async with client.stream("POST", "/v1/jobs/batch", content=lines, headers=headers) as response:
                    report = json.loads(unpack(b"".join([piece async for piece in response.aiter_raw()])))
                assert (count, count) == (report["accepted"], len(set(report["ids"])))
                assert ("" if accepted == "identity" else accepted) == response.headers.get("content-encoding", "")
                assert "accept-encoding" == response.headers["vary"]


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ([], None),
        ([b"gzip"], b"gzip"),
        ([b"br", b"GZIP ; q=0.1"], b"gzip"),
        ([b"zstd, gzip"], b"zstd"),
        ([b"gzip, zstd"], b"zstd"),
        ([b"gzip;q=1.0, zstd;q=0.5"], b"gzip"),
        ([b"*"], b"zstd"),
        ([b"*, zstd;q=0"], b"gzip"),
        ([b"*, gzip;q=0, zstd;q=0"], None),
        ([b"identity;q=1, *;q=0"], None),
        ([b"gzip;q=x"], None),
        ([b"x-gzip"], b"gzip"),
    ],
)
async def test_the_client_says_what_it_takes(accepted: list[bytes], expected: bytes | None) -> None:
    """Accept-Encoding is read as RFC 9110 has it; of what a client takes as gladly, zstd is chosen."""
    assert expected == coding_for(accepted)


async def test_tags_are_compared_weakly() -> None:
    """A tag is known with and without its W/, among others, and by a star."""
    assert [True, True, True, False, False] == [
        is_known(b'W/"a"', values) for values in ([b'"a"'], [b'"b", W/"a"'], [b"*"], [b'"b"'], [])
    ]
    for coding in (b"gzip", b"zstd"):
        assert compress(b"x" * 2000, coding) == compress(b"x" * 2000, coding)
