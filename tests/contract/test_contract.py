"""The OpenAPI document against the API itself: a real server, a live worker, and requests that the document allows.

TEST_CONTRACT=500 makes so many examples for each operation, instead of a dozen, from a seed that it prints.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import start_valkey

EXAMPLES_COUNT = int(os.environ.get("TEST_CONTRACT", "12"))
DEADLINE_S = 240 if "TEST_CONTRACT" not in os.environ else 3600
#: Not negative_data_rejection: a batch with a wrong job is taken, and says of that job that it was not.
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "unsupported_method",
)  # fmt: skip
#: A stream of events has no end, so that nobody could look at its answer.
ENDLESS = "getEvents"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The address of an API beside a worker, as `headrace run --http` serves it."""
    environ = {**os.environ, "HOST_APP": "lone", "PYTHONPATH": str(Path(__file__).parent.parent)}
    with start_valkey(tmp_path) as server, (tmp_path / "said").open("wb") as said:
        environ["HOST_BROKER"] = server.url
        command = [sys.executable, "-m", "headrace", "run", "hosts:engine", "--http", "127.0.0.1:0"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        try:
            address = ""
            for line in process.stderr:
                if "the API is at" in line:
                    address = line.split()[-1]
                    break
            assert address
            yield address
        finally:
            process.terminate()
            _, rest = process.communicate(timeout=60)
            print(rest)


@pytest.mark.slow
def test_every_answer_is_in_the_document(url: str, tmp_path: Path) -> None:
    """Whatever is asked, right or wrong, is answered as the document says, and never by a fault of the server's."""
    seed = "1" if "TEST_CONTRACT" not in os.environ else str(random.randrange(2**32))
    print("seed", seed)
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", ",".join(CHECKS),
         "--exclude-operation-id", ENDLESS, "--max-examples", str(EXAMPLES_COUNT), "--seed", seed, "--no-color",
         "--request-timeout", "70", "--generation-database", "none", "--warnings", "off"],
        cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Operations:" in done.stdout
