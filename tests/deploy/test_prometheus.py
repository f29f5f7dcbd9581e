"""Prometheus's own tools read what deploy/ has for it, and /metrics; where they are not on PATH only the pairing runs.

`promtool` checks rules, configurations and the text of /metrics, and fires each alert out of made-up series;
`prometheus` scrapes an API with two workers and evaluates every expression of the dashboard and of the rules.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from checkout import ROOT
from http_server import DEADLINE_S, Serving, serving
from servers import free_port, start_valkey

FOLDER = ROOT / "deploy" / "prometheus"
BOARD = ROOT / "deploy" / "grafana" / "headrace.json"
TOOL_TIMEOUT_S = 60.0
JOBS = """
import time
from headrace import Engine
engine = Engine()
@engine.job
async def add(a: int, b: int) -> int:
    return a + b
@engine.job(retry=None)
async def fail() -> None:
    raise ValueError("as asked")
@engine.job(queue="mail", timeout=0.1, retry=None)
def stay() -> None:
    time.sleep(60)
"""
#: Made of what only some machines or some minutes have: collections of more than the youngest objects.
MAY_BE_EMPTY = {"headrace_worker_gc_pause_seconds", "headrace_http_gc_pause_seconds"}


def tool(name: str) -> str:
    """Return the path of one of Prometheus's programs; skips the test where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH")
    return found


def promtool(*words: str, stdin: bytes = b"", folder: Path = FOLDER) -> None:
    """Run promtool; it has to find nothing wrong, nor anything to warn of."""
    done = subprocess.run(
        [tool("promtool"), *words], cwd=folder, input=stdin, capture_output=True, check=False, timeout=TOOL_TIMEOUT_S
    )
    assert (0, b"") == (done.returncode, done.stderr), done.stdout


def loaded(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def test_each_alert_is_fired_and_kept_quiet() -> None:
    """alerts_test.yml has, for each rule, a moment at which it fires and one at which it does not."""
    rules = {rule["alert"] for group in loaded("alerts.yml")["groups"] for rule in group["rules"]}
    tried = [each for test in loaded("alerts_test.yml")["tests"] for each in test["alert_rule_test"]]
    assert rules == {each["alertname"] for each in tried if each["exp_alerts"]}
    assert rules == {each["alertname"] for each in tried if not each["exp_alerts"]}


def test_the_rules_are_rules_and_each_alert_fires() -> None:
    """Prometheus takes the rules, and each fires and says what it should when its time has come."""
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_the_configuration_is_one_also_with_token_and_tls(tmp_path: Path) -> None:
    """Prometheus takes the scrape configuration as it is, and with the lines for a token and TLS uncommented."""
    promtool("check", "config", "prometheus.yml")
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    commented = r"^    # (?=authorization:|  credentials_file:|scheme:|tls_config:|  ca_file:)"
    opened = re.sub(commented, "    ", text, flags=re.MULTILINE)
    for name in ("headrace.token", "headrace-ca.crt"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "prometheus.yml").write_text(opened.replace("/etc/prometheus", str(tmp_path)), encoding="utf-8")
    shutil.copy(FOLDER / "alerts.yml", tmp_path)
    promtool("check", "config", "prometheus.yml", folder=tmp_path)


@contextmanager
def working(folder: Path) -> Iterator[Serving]:
    """Yield an API over a server with two workers."""
    (folder / "jobs_here.py").write_text(JOBS, encoding="utf-8")
    with ExitStack() as stack:
        server = stack.enter_context(start_valkey(folder))
        api = stack.enter_context(serving(folder, "", url=server.url))
        for number in range(2):
            log = stack.enter_context((folder / f"worker{number}").open("wb"))
            worker = subprocess.Popen(
                [sys.executable, "-m", "headrace", "run", "jobs_here:engine", "--slots", "4"],
                cwd=folder, env={**os.environ, "HEADRACE_URL": server.url},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
            stack.callback(functools.partial(_end, worker))
        until(lambda: 2 == len(_got(f"{api.url}/v1/workers")))
        yield api


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _got(address: str, **parameters: str) -> Any:
    return httpx.get(address, params=parameters, timeout=DEADLINE_S).json()


def _metrics(api: Serving) -> bytes:
    return httpx.get(f"{api.url}/metrics", timeout=DEADLINE_S).content


def until(done: Any) -> None:
    """Return once this is so."""
    ends_s = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < ends_s
        time.sleep(0.05)


def submit(api: Serving, *names: str) -> None:
    for name in names:
        args = [1, 2] if name == "add" else []
        assert (
            202 == httpx.post(f"{api.url}/v1/jobs", json={"name": name, "args": args}, timeout=DEADLINE_S).status_code
        )


@pytest.mark.redis_core
def test_the_text_of_metrics_is_as_it_should_be(tmp_path: Path) -> None:
    """Of an API with two workers that have worked: no fault, and nothing against the customs of names and units."""
    tool("promtool")
    with working(tmp_path) as api:
        submit(api, *["add", "fail", "stay"] * 3)
        until(lambda: b"headrace_run_seconds_bucket" in _metrics(api))
        text = _metrics(api)
    assert 2 == len(set(re.findall(rb'headrace_completed_runs_total\{[^}]*worker="([^"]+)"', text)))
    promtool("check", "metrics", stdin=text)


def expressions() -> list[str]:
    """Return what the dashboard asks, as Grafana asks it."""
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return [each.replace("$job", "headrace").replace("$__rate_interval", "30s") for each in asked]


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    """Yield the address of a Prometheus that scrapes an API twice a second, with the rules."""
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    text = text.replace("scrape_interval: 15s", "scrape_interval: 500ms").replace("8787", str(port))
    text = text.replace("- alerts.yml", f"- {FOLDER}/alerts.yml")
    (folder / "prometheus.yml").write_text(f"global:\n  evaluation_interval: 500ms\n{text}", encoding="utf-8")
    listens = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                tool("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
                f"--web.listen-address={listens}",
            ],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield f"http://{listens}/api/v1"
    finally:
        _end(process)


@pytest.mark.redis_core
def test_prometheus_evaluates_all_that_dashboard_and_rules_ask(tmp_path: Path) -> None:
    """Over an API with two workers no expression is refused, and each has values of the jobs that ran."""
    tool("prometheus")
    with working(tmp_path) as api, prometheus(tmp_path, api.port) as asked:
        submit(api, "stay")
        missing = expressions()

        def is_answered(expression: str) -> bool:
            answer = _got(f"{asked}/query", query=expression)
            assert "success" == answer["status"], (expression, answer)
            return bool(answer["data"]["result"])

        def all_are() -> bool:
            submit(api, "add", "fail")
            missing[:] = [each for each in missing if not is_answered(each)]
            return all(set(re.findall(r"\bheadrace_\w+", each)) <= MAY_BE_EMPTY for each in missing)

        until(lambda: _is_up(asked))
        until(all_are)
        until(lambda: all(rule["health"] == "ok" for rule in _rules(asked)))
        assert len(_rules(asked)) == sum(len(group["rules"]) for group in loaded("alerts.yml")["groups"])
        until(lambda: "firing" in {rule["state"] for rule in _rules(asked) if rule["name"] == "HeadraceDeadLetters"})


def _is_up(asked: str) -> bool:
    try:
        return bool(_got(f"{asked}/query", query='up{job="headrace"} == 1')["data"]["result"])
    except (httpx.TransportError, ValueError):  # it has just been started
        return False


def _rules(asked: str) -> list[dict[str, Any]]:
    return [rule for group in _got(f"{asked}/rules")["data"]["groups"] for rule in group["rules"]]
