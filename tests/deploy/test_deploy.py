"""The files in deploy/ can be read by what they are for, and name only metrics that headrace gives."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from checkout import ROOT
from headrace.engine.cli.app import command_line
from headrace.engine.observe.families import GROUPS, sample_names

DEPLOY = ROOT / "deploy"
GIVEN = {name for group in GROUPS for family in group.families for name in sample_names(family)}
LABELS = {label for group in GROUPS for label in group.labels} | {"le", "job", "instance"}


def loaded(name: str) -> Any:
    """Return a YAML file's content."""
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def named(expression: str) -> set[str]:
    """Return the metrics that an expression names."""
    return set(re.findall(r"\bheadrace_\w+", expression))


def queries() -> list[str]:
    """Return all expressions of the dashboard."""
    board = json.loads((DEPLOY / "grafana" / "headrace.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return found + [each["definition"] for each in board["templating"]["list"] if "definition" in each]


def rules() -> list[dict[str, Any]]:
    """Return all alert rules."""
    return [rule for group in loaded("prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def test_the_dashboard_names_only_metrics_that_there_are() -> None:
    """Each query of the dashboard names at least one metric, and none that /metrics does not give."""
    assert len(queries()) > 30
    for query in queries():
        assert named(query)
        assert set() == named(query) - GIVEN
        assert set() == set(re.findall(r"by \(([^)]*)\)", query)) - {", ".join(each) for each in _groupings(query)}


def _groupings(query: str) -> list[list[str]]:
    """Return the lists of labels that a query groups by, those that are labels."""
    lists = [[label.strip() for label in found.split(",")] for found in re.findall(r"by \(([^)]*)\)", query)]
    return [labels for labels in lists if set(labels) <= LABELS]


def test_panels_have_places_of_their_own() -> None:
    """No two panels overlap, and each has an id of its own."""
    board = json.loads((DEPLOY / "grafana" / "headrace.json").read_text(encoding="utf-8"))
    assert len(board["panels"]) == len({panel["id"] for panel in board["panels"]})
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert (set(), True) == (cells & taken, at["x"] + at["w"] <= 24)
        taken |= cells


def test_alerts_name_only_metrics_that_there_are() -> None:
    """Each rule has a name of its own, an expression over metrics that are given, a severity, and says what to do."""
    assert len(rules()) == len({rule["alert"] for rule in rules()})
    for rule in rules():
        assert {"alert", "expr", "labels", "annotations"} <= rule.keys()
        assert set() == named(rule["expr"]) - GIVEN
        assert named(rule["expr"]) or "up{" in rule["expr"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert {"summary", "description"} == rule["annotations"].keys()


def test_prometheus_scrapes_what_the_rules_speak_of() -> None:
    """The scrape job is called as the rules call it, and the rules' file is the one that is there."""
    config = loaded("prometheus/prometheus.yml")
    assert ["headrace"] == [job["job_name"] for job in config["scrape_configs"]]
    assert all((DEPLOY / "prometheus" / name).exists() for name in config["rule_files"])


def test_the_scrape_job_says_how_to_send_a_token() -> None:
    """The lines for a token and for TLS are there to be uncommented, and are the scrape job's own then."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    opened = re.sub(
        r"^    # (?=authorization:|  credentials_file:|scheme:|tls_config:|  ca_file:)",
        "    ",
        text,
        flags=re.MULTILINE,
    )
    (job,) = yaml.safe_load(opened)["scrape_configs"]
    assert ({"credentials_file"}, "https") == (job["authorization"].keys(), job["scheme"])
    assert {"ca_file"} == job["tls_config"].keys()
    assert "headrace token new --name prometheus --scope read" in (DEPLOY / "README.md").read_text(encoding="utf-8")


def test_there_is_a_folder_that_can_be_written() -> None:
    """Everything else is read-only: the data folder is one that unit, image and stack let headrace write to."""
    unit = (DEPLOY / "systemd" / "headrace-worker.service").read_text(encoding="utf-8")
    assert {"StateDirectory=headrace", "Environment=XDG_STATE_HOME=/var/lib/headrace"} <= set(unit.splitlines())
    work = loaded("docker/compose.yml")["services"]["work"]
    assert ["work:/var/lib/headrace"] == work["volumes"]
    assert "/var/lib/headrace" == work["environment"]["XDG_STATE_HOME"]
    assert "work" in loaded("docker/compose.yml")["volumes"]
    image = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert "install --directory --owner 10001 --mode 0700 /var/lib/headrace" in image


def test_the_image_publishes_nothing_that_has_no_token() -> None:
    """The API binds the container's loopback, so no port is exposed."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("CMD ") and '"127.0.0.1:8787"' in line for line in lines)
    assert [] == [line for line in lines if line.startswith("EXPOSE")]
    assert "ports" not in loaded("docker/compose.yml")["services"]["work"]


def test_the_image_runs_as_nobody_and_takes_signals() -> None:
    """It has a user of its own, the exec form, SIGTERM as its stop signal, and a health check of /healthz."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    said = {line.split()[0]: line for line in lines if line and not line.startswith(("#", " "))}
    assert ("USER 10001", "STOPSIGNAL SIGTERM") == (said["USER"], said["STOPSIGNAL"])
    for word in ("ENTRYPOINT", "CMD"):
        assert all(isinstance(part, str) for part in json.loads(said[word].partition(" ")[2]))
    check = next(line for line in lines if line.strip().startswith("CMD [") and "healthz" in line)
    assert "python" == json.loads(check.strip().partition(" ")[2])[0]


def test_the_stack_waits_for_a_drain() -> None:
    """The compose file parses, keeps the server's data, and gives workers longer than drain_timeout."""
    stack = loaded("docker/compose.yml")["services"]
    assert {"valkey", "work", "prometheus"} == stack.keys()
    assert "yes" == stack["valkey"]["command"][stack["valkey"]["command"].index("--appendonly") + 1]
    assert int(stack["work"]["stop_grace_period"].removesuffix("s")) > 25
    for name in ("prometheus.yml", "alerts.yml"):
        assert any(volume.startswith(f"../prometheus/{name}:") for volume in stack["prometheus"]["volumes"])


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_units_start_commands_that_there_are(path: Path) -> None:
    """Each unit's command is one of headrace's with options that it takes, and it is given time to drain."""
    lines = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    program, command, *_ = shlex.split(lines["ExecStart"])
    assert program.endswith("/bin/headrace")
    assert 0 == CliRunner().invoke(command_line, [command, "--help"]).exit_code
    assert ("SIGTERM", True) == (lines["KillSignal"], int(lines["TimeoutStopSec"]) > 25)


def test_units_are_units(tmp_path: Path) -> None:
    """Where systemd is at hand, it finds nothing wrong with the units but the places that are to be filled in."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        text = re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        unit = tmp_path / path.name
        unit.write_text(text.replace("/srv/APPLICATION", str(tmp_path)), encoding="utf-8")
        done = subprocess.run(
            [analyze, "verify", "--man=no", str(unit)], check=False, capture_output=True, text=True, timeout=60
        )
        about = [line for line in done.stderr.splitlines() if path.name in line and "Unknown" in line]
        assert [] == about
