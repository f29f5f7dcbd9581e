"""What the clients send again, what they raise, and what they keep to themselves; against a server with a script."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from scripted import answer, scripted, stream

import headrace
from headrace import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    ConfigError,
    DuplicateJob,
    HeadraceError,
    InvalidArguments,
    JobCancelled,
    JobCrashed,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimedOut,
    PayloadTooLarge,
    QueueFull,
    ResultUnavailable,
    UnknownHandler,
    WaitTimeout,
)
from headrace.config.sources import load
from headrace.engine.http.problems import STATUSES
from headrace.engine.remote.feeding import Feeding
from headrace.engine.remote.options import why_lost
from headrace.engine.remote.patience import retry_after_s
from headrace.engine.remote.replies import ApiBusy
from headrace.engine.remote.stream import Stream, Told
from headrace.engine.remote.wire import Reply
from headrace.jobs.errors import Outlook

DONE = answer(202, {"id": "default:1-0", "status": "queued"})
SECRET = "hr_very-secret-token"


def test_a_lost_answer_is_asked_for_again_under_the_same_key() -> None:
    """A submission whose answer is lost, or is a 502, 503 or 504, is sent again; two submissions have two keys."""
    with scripted(b"", answer(502), answer(503), answer(504), DONE, DONE) as server, Client(server.url) as client:
        assert "default:1-0" == client.submit("add", args=(1, 2)).id
        client.submit("add", args=(1, 2))
    keys = [heard.headers["idempotency-key"] for heard in server.heard]
    assert (6, 1, 2) == (len(keys), len(set(keys[:5])), len(set(keys)))
    assert {b'{"name":"add","args":[1,2],"kwargs":{}}'} == {heard.body for heard in server.heard}


def test_a_submission_with_a_unique_key_is_asked_for_again_too() -> None:
    """It has a key of its own like any other; where another job has the unique key it is DuplicateJob at once."""
    held = answer(409, {"detail": "job default:2-0 has the unique key 'u' already", "error": "DuplicateJob"})
    with scripted(b"", DONE, held) as server, Client(server.url) as client:
        assert "default:1-0" == client.submit("add", unique="u").id
        with pytest.raises(DuplicateJob, match="default:2-0"):
            client.submit("add", unique="u")
    keys = [heard.headers["idempotency-key"] for heard in server.heard]
    assert (3, True, False) == (len(keys), keys[0] == keys[1], keys[1] == keys[2])


def test_the_callers_own_key_is_sent() -> None:
    """A caller's key goes as it is, and options go under the API's names."""
    with scripted(DONE) as server, Client(server.url) as client:
        client.submit("add", kwargs={"a": 1}, queue="q", delay="1m", unique="u", attempts=2, idempotency_key="mine")
    assert "mine" == server.heard[0].headers["idempotency-key"]
    assert b'{"name":"add","args":[],"kwargs":{"a":1},"queue":"q","delay_s":60.0,"unique":"u","attempts":2}' == (
        server.heard[0].body
    )


def test_what_may_not_be_done_twice_is_not_sent_again() -> None:
    """A cancel or purge whose answer is lost is not repeated: the error says that its fate is not known."""
    with scripted(b"", b"", answer(503)) as server, Client(server.url) as client:
        for call in (client.handle("default:1-0").cancel, lambda: client.purge("q")):
            with pytest.raises(BrokerUnavailable, match="not known"):
                call()
        with pytest.raises(BrokerUnavailable):
            client.dead_drop("default:1-0")
    assert 3 == len(server.heard)


def test_a_full_queue_is_tried_again_when_it_says() -> None:
    """A 429 is tried again after its Retry-After; not with on_full="reject", nor where that is past the timeout."""
    full = answer(429, {"detail": "the queue is full", "error": "QueueFull"}, retry_after="0")
    later = answer(429, {"detail": "the queue is full", "error": "QueueFull"}, retry_after="100")
    with scripted(full, DONE, full, later) as server, Client(server.url, timeout=20) as client:
        client.submit("add")
        for on_full in ("reject", "wait"):
            with pytest.raises(QueueFull, match="the queue is full"):
                client.submit("add", on_full=on_full)
        with pytest.raises(InvalidArguments, match="on_full"):
            client.submit("add", on_full="never")
    assert 4 == len(server.heard)


def test_a_call_ends_with_its_timeout() -> None:
    """A server that never comes, or always fails, ends the call within its timeout as BrokerUnavailable."""
    with scripted() as gone:
        pass
    with Client(gone.url, timeout=0.3) as client, pytest.raises(BrokerUnavailable, match="headrace serve"):
        client.queues()
    busy = scripted(*[answer(503)] * 50)
    with busy as server, Client(server.url, timeout=0.3) as client, pytest.raises(BrokerUnavailable, match="503"):
        client.queues()
    assert 1 < len(server.heard) < 50


@pytest.mark.parametrize("kind", STATUSES)
def test_errors_are_the_engines(kind: type[HeadraceError]) -> None:
    """Whatever error of the engine the API names, the client raises it, with the API's words."""
    status = STATUSES[kind]
    problem = answer(status, {"detail": "what happened", "status": status, "error": kind.__name__})
    with scripted(*[problem] * 20) as server, Client(server.url, timeout=0.1) as client:
        with pytest.raises(kind, match="what happened") as caught:
            client.submit("add")
        assert type(caught.value) is kind


def test_an_api_without_room_is_told_from_a_server_that_is_away() -> None:
    """It is tried again as for any 503, and then is an ApiBusy: a BrokerUnavailable that passes by itself."""
    busy = answer(503, {"detail": "no memory", "error": "ApiBusy"})
    with scripted(*[busy] * 50) as server, Client(server.url, timeout=0.3) as client:
        with pytest.raises(ApiBusy, match="no memory") as caught:
            client.submit("add")
        assert (True, Outlook.PASSES) == (isinstance(caught.value, BrokerUnavailable), caught.value.outlook)
        assert 1 < len(server.heard) < 50


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidArguments), (401, ConfigError), (403, ConfigError), (404, HeadraceError), (409, DuplicateJob),
        (410, ResultUnavailable), (413, PayloadTooLarge), (422, InvalidArguments), (500, HeadraceError),
        (502, BrokerUnavailable),
    ],
)  # fmt: skip
def test_errors_without_a_name_go_by_their_status(status: int, kind: type[HeadraceError]) -> None:
    """What a proxy, or the HTTP layer, answers becomes the nearest error."""
    page = f"HTTP/1.1 {status} x\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>".encode()
    with scripted(*[page] * 20) as server, Client(server.url, timeout=0.1) as client:
        with pytest.raises(kind, match=f"{status}.*<html>") as caught:
            client.submit("add")
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        ({"status": "dead", "error": {"reason": None}}, JobFailed),
        ({"status": "dead", "error": {"reason": "timed_out"}}, JobTimedOut),
        ({"status": "dead", "error": {"reason": "crashed"}}, JobCrashed),
        ({"status": "cancelled", "error": {"reason": "cancelled"}}, JobCancelled),
        ({"status": "expired", "error": {"reason": None}}, JobExpired),
    ],
)
def test_a_jobs_end_is_the_engines_error(result: dict[str, Any], kind: type[JobFailed]) -> None:
    """A job without success raises what the engine's own handle does, with the remote traceback."""
    result["error"] |= {"type": "ValueError", "message": "no such row", "traceback": "in line 7"}
    ended = scripted(answer(200, {"id": "q:1-0", **result}))
    with ended as server, Client(server.url) as client, pytest.raises(kind) as caught:
        client.handle("q:1-0").result(timeout=5)
    assert ("q:1-0", kind) == (caught.value.job_id, type(caught.value))
    if result["status"] == "dead":
        assert "ValueError: no such row" in str(caught.value)
        assert "in line 7" in str(caught.value)


def test_waiting_outlives_an_outage_and_ends_in_time() -> None:
    """A wait goes through lost connections to the value; one that ends first is WaitTimeout, with its cause."""
    waiting = answer(202, {"id": "q:1-0", "status": "running"})
    done = answer(200, {"id": "q:1-0", "status": "succeeded", "value": [1, None]})
    with scripted(b"", answer(503), waiting, done) as server, Client(server.url, timeout=0.2) as client:
        assert [1, None] == client.handle("q:1-0").result()
    assert all("/v1/jobs/q:1-0/result?wait_s=25" in heard.line for heard in server.heard)
    slow = scripted(*[waiting] * 500)
    with slow as server, Client(server.url) as client, pytest.raises(WaitTimeout, match=r"after 0.2 s"):
        client.handle("q:1-0").result(timeout=0.2)
    with Client(server.url) as client, pytest.raises(WaitTimeout, match="could not be asked") as caught:
        client.handle("q:1-0").result(timeout=0.2)
    assert isinstance(caught.value.__cause__, BrokerUnavailable)


def test_a_token_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The token comes from the argument or HEADRACE_TOKEN, is in each request, and in no message or representation."""
    monkeypatch.setenv("HEADRACE_TOKEN", SECRET)
    refused = answer(403, {"detail": "the token may not read"})
    with scripted(refused, refused) as server:
        for client in (Client(server.url), Client(server.url, token="other-token")):
            with pytest.raises(ConfigError, match="may not read") as caught:
                client.queues()
            assert "secret" not in f"{client!r} {client.options!r} {caught.value!r} {client.handle('x')!r}"
            client.close()
    assert [f"Bearer {SECRET}", "Bearer other-token"] == [heard.headers["authorization"] for heard in server.heard]
    with pytest.raises(ConfigError) as wrong:
        Client(token="two\nlines")
    assert "two" not in str(wrong.value)
    assert load({}, {}, {"HEADRACE_TOKEN": SECRET, "HEADRACE_API": "http://x"}, tmp_path).settings is not None


def test_a_redirection_is_not_followed() -> None:
    """The token goes nowhere but where it was meant to go."""
    elsewhere = scripted(answer(307, location="http://127.0.0.1:1/"))
    with elsewhere as server, Client(server.url, token=SECRET) as client, pytest.raises(HeadraceError, match="307"):
        client.queues()
    assert 1 == len(server.heard)


@pytest.mark.parametrize("url", ["127.0.0.1:8787", "redis://h", "http://", "http://u:p@h"])
def test_an_address_is_checked(url: str) -> None:
    """What is no address of an API is a ConfigError at once, without a password in it."""
    with pytest.raises(ConfigError) as caught:
        Client(url)
    assert "u:p" not in str(caught.value)


def test_wrong_options_are_named() -> None:
    """An option that HTTP does not have, or of a wrong kind, is named; so is an argument that JSON cannot say."""
    with Client() as client:
        for options, word in (({"retry": 3}, "retry"), ({"delay": "soon"}, "delay")):
            with pytest.raises(InvalidArguments, match=word):
                client.submit("add", **options)
        with pytest.raises(InvalidArguments, match="JSON"):
            client.submit("add", args=(object(),))
    for timeout in (0, "soon"):
        with pytest.raises(ConfigError, match="timeout"):
            Client(timeout=timeout)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without httpx the error names the extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigError, match=r"headrace\[client\]"):
            kind()


def test_retry_after_is_a_number_or_a_date() -> None:
    """Both forms of Retry-After are read; anything else asks for nothing."""
    assert [5.0, 0.0, 0.0, 0.0] == [
        retry_after_s(Reply(429, {"retry-after": said}, b""))
        for said in ("5", "", "soon", "Wed, 21 Oct 2015 07:28:00 GMT")
    ]
    assert 1e9 < retry_after_s(Reply(429, {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, b""))


TEXT = """retry: 10
id: a

: still here

event: job.succeeded
id: b
data: {"queue": "q", "id": "q:1-0"}

event: of.later
id: c
data: {}

event: job.dead
id: d
data: {"queue": "q",
data: "reason": "failed"}

"""


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_stream_is_the_same_in_whatever_pieces(end: str, size: int) -> None:
    """Events are read the same whatever ends their lines and wherever the pieces are cut."""
    found, reading = [], Stream()
    data = TEXT.replace("\n", end).encode() + b"data: cut"
    for start in range(0, len(data), size):
        found += reading.feed(data[start : start + size])
    assert [("job.succeeded", "b"), ("of.later", "c"), ("job.dead", "d")] == [(told.kind, told.id) for told in found]
    assert Told("job.dead", '{"queue": "q",\n"reason": "failed"}', "d") == found[2]
    assert (0.01, "d") == (reading.retry_s, reading.last_id)


def test_an_event_without_an_end_is_refused() -> None:
    """A stream that is none of ours does not fill the memory."""
    reading = Stream()
    for _ in range(20):
        reading.feed(b"data: " + b"x" * 50_000 + b"\n")
    with pytest.raises(HeadraceError, match="more than"):
        reading.feed(b"data: " + b"x" * 50_000 + b"\n")


def test_a_gap_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Word that events are missing becomes a warning, as where the engine itself reads them."""
    feeding = Feeding("0", None)
    gap = b'event: gap\ndata: {"queue": "q", "after": "1-0", "first": "9-0"}\n\n'
    feeding.request()
    assert [] == list(feeding.take(gap))
    assert "events missed queue='q' after='1-0' first='9-0'" in caplog.text


def test_a_stream_that_was_too_slow_is_connected_again() -> None:
    """A 408 says nothing against the request: it is as good as a lost connection."""
    event = 'event: queue.paused\nid: f\ndata: {"queue": "q"}\n\n'
    with scripted(answer(408), stream(event)) as server, Client(server.url) as client:
        assert "queue.paused" == next(client.events()).kind


def test_a_forked_process_opens_its_own() -> None:
    """Where a thread of the parent held the client's lock at the fork, the child's calls go on all the same."""
    with scripted(DONE, DONE) as server, Client(server.url) as client:
        client.submit("add")
        with client._own().lock:
            child = os.fork()
            if child == 0:
                try:
                    signal.alarm(20)
                    os._exit(0 if client.submit("add").id == "default:1-0" else 1)
                finally:
                    os._exit(2)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 2 == len(server.heard)


@contextmanager
def streaming() -> Iterator[Any]:
    """A server whose stream breaks off, fails, says where it is, and goes on."""
    place = "retry: 1\nid: e\n\n"
    last = 'event: queue.paused\nid: f\ndata: {"queue": "q"}\n\n'
    with scripted(stream(TEXT), b"", answer(503), stream(place), stream(last), answer(422, {"detail": "no"})) as server:
        yield server


def check(server: Any, events: list[Any]) -> None:
    """See what was asked and told."""
    assert [("job.succeeded", "b"), ("job.dead", "d"), ("queue.paused", "f")] == [(e.kind, e.cursor) for e in events]
    assert ("q", "q:1-0", "failed") == (events[0].queue, events[0].id, events[1].reason)
    assert ["0", "d", "d", "d", "e", "f"] == [heard.headers["last-event-id"] for heard in server.heard]
    assert "GET /v1/events?queue=q HTTP/1.1" == server.heard[0].line


def test_events_go_on_where_they_were_cut_off() -> None:
    """A stream that ends or fails is connected again from the last place; a request that is wrong is raised."""
    with streaming() as server, Client(server.url) as client:
        reader = client.events(after="0", queue="q")
        events = [next(reader), next(reader), next(reader)]
        with pytest.raises(InvalidArguments):
            next(reader)
    check(server, events)


@pytest.mark.anyio
async def test_events_in_a_loop_go_on_too() -> None:
    """The same from an event loop; what is left by `aclose` is let go of."""
    events = []
    with streaming() as server, anyio.fail_after(20):
        async with AsyncClient(server.url) as client, client.events(after="0", queue="q") as reader:
            events += [await anext(reader), await anext(reader), await anext(reader)]
            with pytest.raises(InvalidArguments):
                await anext(reader)
    check(server, events)


@pytest.mark.anyio
async def test_the_loops_client_has_the_same_policy() -> None:
    """AsyncClient sends again under the same key, raises the same errors, and waits without holding up its loop."""
    full = answer(429, {"detail": "the queue is full", "error": "QueueFull"}, retry_after="0")
    unknown = answer(404, {"detail": "no such handler", "error": "UnknownHandler"})
    done = answer(200, {"id": "q:1-0", "status": "succeeded", "value": 3})
    with (
        anyio.fail_after(20),
        scripted(b"", full, DONE, unknown, b"", done, answer(404, {"error": "JobNotFound"})) as server,
    ):
        async with AsyncClient(server.url, token=SECRET) as client:
            handle = await client.submit("add", args=(1, 2))
            with pytest.raises(UnknownHandler):
                await client.submit("ad")
            assert 3 == await handle.result(timeout=10)
            with pytest.raises(JobNotFound):
                await handle.status()
            assert "secret" not in f"{client!r} {handle!r}"
    assert 1 == len({heard.headers["idempotency-key"] for heard in server.heard[:3]})


def test_a_client_may_be_used_by_many_threads() -> None:
    """Threads share one client and its connections."""
    with scripted(*[DONE] * 40) as server, Client(server.url) as client:
        threads = [threading.Thread(target=lambda: [client.submit("add") for _ in range(10)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert 40 == len({heard.headers["idempotency-key"] for heard in server.heard})


def test_importing_them_is_cheap() -> None:
    """Neither headrace nor the clients' modules import httpx before a client is made."""
    import subprocess
    import sys

    code = (
        "import sys, headrace; headrace.Client; headrace.AsyncClient; "
        "print(sorted({'httpx', 'h2', 'litestar'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout
    assert {"Client", "AsyncClient"} <= set(headrace.__all__)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("127.0.0.1:8787", "'127.0.0.1:8787' .* write http://127.0.0.1:8787"),
        ("localhost:8787", "write http://localhost:8787"),
        ("redis://h", "not 'redis://h'"),
        ("http://h:port", "'http://h:port' cannot be read"),
        ("u:p@h:80", "'h:80'"),
    ],
)
def test_a_wrong_address_is_shown(url: str, word: str) -> None:
    """The message quotes what was given, without a password, and says how it is written."""
    with pytest.raises(ConfigError, match=word) as caught:
        Client(url)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "end"),
    [
        (401, "application/problem+json", "no token. (the client's token=, or HEADRACE_TOKEN)"),
        (403, "application/problem+json", "no token."),
        (403, "text/plain", "no token.; give a token that may do this (token=, or HEADRACE_TOKEN)"),
    ],
)
def test_a_refused_token_is_said_once(status: int, kind: str, end: str) -> None:
    """Where the API itself says what to do, the client adds but how it is told a token."""
    refused = answer(status, {"detail": "no token."}, content_type=kind)
    with scripted(refused) as server, Client(server.url) as client, pytest.raises(ConfigError) as caught:
        client.queues()
    assert end == str(caught.value)


ALERT = b"\x15\x03\x01\x00\x02\x02\x16"  # a TLS server's, to a request in the clear


def test_a_mistaken_scheme_is_named() -> None:
    """What answers by a TLS alert is to be tried by https, what speaks no TLS by http."""
    with scripted(*[ALERT] * 50) as server, Client(server.url, timeout=0.2) as client:
        tls = server.url.replace("http:", "https:")
        with pytest.raises(BrokerUnavailable, match=f"try {tls}"):
            client.queues()
    for said in ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "[SSL] record layer failure"):
        _, _, advice = why_lost(httpx.ConnectError(said), tls)
        assert f"what answers there speaks no TLS; try {server.url}" == advice
