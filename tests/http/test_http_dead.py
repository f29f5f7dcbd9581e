"""/v1/dead: dead letters over HTTP, on a memory broker."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
import httpx
import msgspec
import pytest

from headrace.engine.broker.control import OpenBroker
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.open import open_broker
from headrace.engine.broker.port import Bound, Registration, Submission
from headrace.engine.http.letters import DeadItem
from headrace.jobs import codec
from headrace.jobs.disposition import DeadLetter, Disposition, Kind, pack_letter
from headrace.jobs.letters import REASONS
from http_scene import asking, problem, publish
from servers import start_valkey

pytestmark = pytest.mark.anyio
_numbers = itertools.count()


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    """A broker whose worker knows `add(a: int, b: int = 1)`."""
    broker = MemoryBroker(f"memory://http-dead-{next(_numbers)}")
    broker.register(Registration("w", ("default",), 30.0))
    publish(broker)
    yield broker
    broker.close()


def bury(broker: OpenBroker, count: int = 1, reason: str = "failed", body: bytes = b"") -> list[str]:
    """Have jobs die; return their ids."""
    packed = body or codec.pack_foreign("add", [1], {"b": 2})
    ids = broker.publish("default", [Submission(packed)] * count, "", Bound())
    for lease in broker.fetch({"default": count}, 0):
        letter = DeadLetter(
            id=lease.job_id, queue="default", name="add", reason=reason, error="E: no", traceback="", attempts=3,
            deliveries=3, died_at_ms=7, body=lease.body,
        )  # fmt: skip
        broker.settle([Disposition(lease, Kind.DEAD, letter=pack_letter(letter))])
    return ids


async def test_pages_of_dead_jobs_join_into_the_whole(broker: MemoryBroker) -> None:
    """Following the cursor gives each letter once, the newest first; each is the one that is asked for alone."""
    ids = bury(broker, 5)
    found, cursor = [], ""
    async with asking(broker) as client:
        while True:
            page = (await client.get("/v1/dead", params={"limit": 2, "cursor": cursor})).json()
            found += page["items"]
            if not (cursor := page["cursor"]):
                break
        alone = (await client.get(f"/v1/dead/{ids[0]}")).json()
        assert {"items": [], "cursor": ""} == (await client.get("/v1/dead?queue=other")).json()
    assert [*reversed(ids)] == [item["id"] for item in found]
    assert found[-1] == alone
    assert ("add", "failed", [1], {"b": 2}, None) == tuple(
        alone[key] for key in ("name", "reason", "args", "kwargs", "edited")
    )


async def test_pages_of_large_letters_come_short(tmp_path: Path) -> None:
    """Of letters of 1 MB a page takes a few, of a real server, by cursors that go into a URL as they came."""
    with start_valkey(tmp_path) as server:
        broker = open_broker(server.url)
        broker.register(Registration("w", ("default",), 30.0))
        ids = bury(broker, 12, body=codec.pack_foreign("add", ["x" * 1_000_000], {})) + bury(broker, 12)
        found, cursor, first = [], "", True
        async with asking(broker) as client:
            while cursor or first:
                first = False
                page = (await client.get(f"/v1/dead?limit=1000&cursor={cursor}")).json()
                assert sum(len(item["raw_base64"]) for item in page["items"]) < 8_000_000
                found += [item["id"] for item in page["items"]]
                cursor = page["cursor"]
                assert cursor == "" or cursor.replace("-", "").replace("_", "").isalnum()
        letters, _ = await anyio.to_thread.run_sync(broker.dead, "default", "", 1000)
        assert sum(len(letter.body) for letter in letters) < 6_000_000
        broker.close()
    assert sorted(ids) == sorted(found)


async def test_a_dead_job_is_edited_and_retried(broker: MemoryBroker) -> None:
    """New arguments take the place of the old ones, which stay in sight; a retry queues the job with them."""
    first, second = bury(broker, 2)
    async with asking(broker) as client:
        item = (await client.patch(f"/v1/dead/{first}", json={"args": [5]})).json()
        assert ([5], {"b": 2}, [1]) == (item["args"], item["kwargs"], item["edited"]["args"])
        assert item == (await client.get(f"/v1/dead/{first}")).json()
        answer = await client.post("/v1/dead/retry", json={"ids": [first, "default:1-0"]})
        assert (200, {"retried": 1, "missing": ["default:1-0"]}) == (answer.status_code, answer.json())
        assert [second] == [each["id"] for each in (await client.get("/v1/dead")).json()["items"]]
    (lease,) = broker.fetch({"default": 10}, 0)
    assert (first, [5]) == (lease.job_id, msgspec.msgpack.decode(codec.unpack_envelope(lease.body).args))


async def test_many_are_retried_by_choice(broker: MemoryBroker) -> None:
    """With all, queue, reason and name choose, and limit bounds the request."""
    bury(broker, 3)
    bury(broker, 2, "timed_out")
    async with asking(broker) as client:

        async def retry(**chosen: object) -> object:
            return (await client.post("/v1/dead/retry", json={"all": True, **chosen})).json()["retried"]

        assert 0 == await retry(name="other")
        assert 2 == await retry(reason="timed_out")
        assert 2 == await retry(limit=2, queue="default")
        assert 1 == await retry()


async def test_a_reason_that_nobody_dies_of_is_refused(broker: MemoryBroker) -> None:
    """It would choose nothing: a 422 that lists the reasons, and the nearest; so is a name that no queue can have."""
    bury(broker)
    async with asking(broker) as client:
        for chosen, said in (
            ({"reason": "timedout"}, "did you mean 'timed_out'? There are: failed, timed_out, crashed, refused"),
            ({"queue": "a b"}, "cannot be a queue's name"),
        ):
            status, detail = problem(await client.post("/v1/dead/retry", json={"all": True, **chosen}))
            assert (422, True) == (status, said in detail)
        document = (await client.get("/openapi.json")).json()
        assert 1 == len((await client.get("/v1/dead")).json()["items"])
    reason = document["components"]["schemas"]["DeadRetry"]["properties"]["reason"]
    assert [*REASONS, None] == reason["enum"]


def test_the_reasons_are_those_that_letters_can_have() -> None:
    """What a letter's record says of its reasons is what may be chosen."""
    assert all(f'"{reason}"' in (DeadLetter.__doc__ or "") for reason in REASONS)
    assert all(f'"{reason}"' in (DeadItem.__doc__ or "") for reason in REASONS)


async def test_a_dead_job_is_forgotten(broker: MemoryBroker) -> None:
    """DELETE answers 204 once, and 404 from then on."""
    (job_id,) = bury(broker)
    async with asking(broker) as client:
        assert (204, b"") == ((gone := await client.delete(f"/v1/dead/{job_id}")).status_code, gone.content)
        for response in (
            await client.delete(f"/v1/dead/{job_id}"),
            await client.get(f"/v1/dead/{job_id}"),
            await client.patch(f"/v1/dead/{job_id}", json={"args": []}),
        ):
            assert 404 == problem(response)[0]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"args": ["x"]}, 422, "argument 'a'"),
        ({"kwargs": {"a": 1}}, 422, "given twice"),
        ({"arguments": []}, 422, "unknown field"),
        ({"args": {}}, 422, "Expected `array"),
    ],
)
async def test_an_edit_that_does_not_fit_is_refused(
    broker: MemoryBroker, body: dict[str, object], status: int, said: str
) -> None:
    """Arguments are checked as those of a submission are, and nothing is changed."""
    (job_id,) = bury(broker)
    letter = broker.dead_letter(job_id)
    async with asking(broker) as client:
        found, detail = problem(await client.patch(f"/v1/dead/{job_id}", json=body))
    assert (status, True) == (found, said in detail)
    assert letter == broker.dead_letter(job_id)


async def test_bodies_that_are_no_json_are_refused(broker: MemoryBroker) -> None:
    """Malformed JSON is a 400, another media type a 415, and a choice that says nothing a 422."""
    (job_id,) = bury(broker)
    headers = {"content-type": "application/json"}
    async with asking(broker) as client:

        async def retry(**said: object) -> httpx.Response:
            return await client.post("/v1/dead/retry", json=said)

        assert 400 == problem(await client.patch(f"/v1/dead/{job_id}", content=b"{", headers=headers))[0]
        assert 415 == problem(await client.patch(f"/v1/dead/{job_id}", content=b"{}"))[0]
        for response in (await retry(), await retry(ids=["a"], all=True), await retry(ids=["a"], queue="default")):
            assert 422 == problem(response)[0]


async def test_bytes_that_are_no_job_are_shown_and_not_edited(broker: MemoryBroker) -> None:
    """A malformed entry has its raw bytes and no arguments."""
    (job_id,) = bury(broker, body=b"nonsense", reason="malformed")
    async with asking(broker) as client:
        item = (await client.get(f"/v1/dead/{job_id}")).json()
        assert (None, None, "bm9uc2Vuc2U=") == (item["args"], item["kwargs"], item["raw_base64"])
        status, detail = problem(await client.patch(f"/v1/dead/{job_id}", json={"args": []}))
    assert (422, True) == (status, "submit the job anew" in detail)


async def test_a_wrong_cursor_is_refused(broker: MemoryBroker) -> None:
    """What no page gave is the caller's fault, and is named."""
    bury(broker)
    async with asking(broker) as client:
        for cursor in ("garbage", "default|garbage"):
            status, detail = problem(await client.get("/v1/dead", params={"cursor": cursor}))
            assert (422, True) == (status, "is no cursor" in detail)
