"""What a client is asked and cannot mean is said at once, by the engine's own errors, and sent nowhere."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from scripted import answer, scripted

from headrace import AsyncClient, Client, ConfigError, InvalidArguments, JobNotFound

#: Nothing answers there: what is sent would be tried for as long as the timeout.
NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize("key", ["", " ", "a\nb", "schl\u00fcssel", " a", "x" * 256, 5])
def test_a_key_that_no_header_takes_is_refused(key: Any) -> None:
    """A key that cannot be sent, or would be none, is the caller's mistake, and no API that is away."""
    with Client(NOWHERE, timeout="1h") as client, pytest.raises(InvalidArguments, match="idempotency_key="):
        client.submit("add", args=(1, 2), idempotency_key=key)


def test_the_longest_key_is_sent() -> None:
    """A key of 255 characters, with blanks amid it, goes as it is."""
    done = answer(202, {"id": "default:1-0", "status": "queued"})
    key = "a b" + "x" * 252
    with scripted(done) as server, Client(server.url) as client:
        client.submit("add", idempotency_key=key)
    assert [key] == [heard.headers["idempotency-key"] for heard in server.heard]


@pytest.mark.parametrize("job_id", ["", ".", "..", "a/b", "q:1-0/../../queues"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda client, job_id: client.job(job_id),
        lambda client, job_id: client.handle(job_id).result(timeout=1),
        lambda client, job_id: client.handle(job_id).cancel(),
        lambda client, job_id: client.retry(job_id),
        lambda client, job_id: client.dead_letter(job_id),
        lambda client, job_id: client.dead_edit(job_id, args=(1,)),
        lambda client, job_id: client.dead_drop(job_id),
    ],
)
def test_no_id_leads_somewhere_else(ask: Callable[[Client, str], object], job_id: str) -> None:
    """What would be another path than a job's is no job."""
    with Client(NOWHERE, timeout="1h") as client, pytest.raises(JobNotFound, match="no job"):
        ask(client, job_id)


@pytest.mark.parametrize("job_id", [None, 5])
def test_an_id_is_a_text(job_id: Any) -> None:
    """An id of another kind is the caller's mistake."""
    with Client(NOWHERE, timeout="1h") as client, pytest.raises(InvalidArguments, match="cannot be a job's id"):
        client.job(job_id)


def test_an_id_that_is_no_unicode_is_asked_for_too() -> None:
    """It is no job's either, and the API says so."""
    gone = answer(404, {"error": "JobNotFound", "detail": "there is no job"})
    with scripted(gone) as server, Client(server.url) as client, pytest.raises(JobNotFound):
        client.job("\ud800")
    assert ["GET /v1/jobs/%3F HTTP/1.1"] == [heard.line for heard in server.heard]


@pytest.mark.parametrize("queue", ["", "a b", "a/b"])
def test_a_name_that_no_queue_has_is_refused(queue: str) -> None:
    """As the engine does it."""
    with Client(NOWHERE, timeout="1h") as client:
        for ask in (client.pause, client.resume, client.purge):
            with pytest.raises(InvalidArguments, match="cannot be a queue's name"):
                ask(queue)


def test_a_queue_of_dots_is_asked_for_by_its_name() -> None:
    """Dots alone would be steps of a path."""
    with scripted(answer(200, {"queue": "..", "purged": 0})) as server, Client(server.url) as client:
        assert 0 == client.purge("..")
    assert ["POST /v1/queues/%2E%2E/purge HTTP/1.1"] == [heard.line for heard in server.heard]


def test_dead_jobs_are_named_or_chosen() -> None:
    """Beside ids nothing else chooses, and one id alone is no list of its letters."""
    with Client(NOWHERE, timeout="1h") as client:
        with pytest.raises(InvalidArguments, match="queue= chooses"):
            client.dead_retry(["q:1-0"], queue="q")
        with pytest.raises(InvalidArguments, match="give a list of ids"):
            client.dead_retry("q:1-0")


def test_arguments_are_gathered() -> None:
    """Arguments that are none are InvalidArguments, as with the engine."""
    with Client(NOWHERE, timeout="1h") as client:
        wrongs: list[dict[str, Any]] = [{"args": 5}, {"kwargs": [1]}]
        for wrong in wrongs:
            with pytest.raises(InvalidArguments, match="give args as a tuple or list, kwargs as a dict"):
                client.submit("add", **wrong)
        with pytest.raises(InvalidArguments, match="wait_timeout='soon'"):
            client.submit_many("add", [(1, 2)], wait_timeout="soon")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://", "not 'http://'"),
        ("http://h?token=s3cret", "write http://h"),
        ("http://h/#s3cret", "write http://h/"),
    ],
)
def test_an_address_is_whole(url: str, said: str) -> None:
    """One without a host, or with more behind it, is shown as far as it can be meant."""
    with pytest.raises(ConfigError) as caught:
        Client(url)
    assert str(caught.value).endswith(said)
    assert "s3cret" not in str(caught.value)


@pytest.mark.anyio
async def test_in_a_loop_it_is_the_same() -> None:
    """AsyncClient says the same."""
    with anyio.fail_after(20):
        async with AsyncClient(NOWHERE, timeout="1h") as client:
            with pytest.raises(InvalidArguments, match="idempotency_key="):
                await client.submit("add", idempotency_key="")
            with pytest.raises(JobNotFound):
                await client.handle("..").result()
            with pytest.raises(InvalidArguments, match="reason= chooses"):
                await client.dead_retry(["q:1-0"], reason="failed")
