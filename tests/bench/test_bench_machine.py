"""What a page says of the commit that was measured."""

import subprocess
from pathlib import Path

import pytest
from measuring import machine


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a commit, whose bench/ is the one that asks."""
    for name in ("bench/results/engine.md", "bench/run.py", "engine/runtime.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as committed")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", *command], cwd=tmp_path, check=True
        )  # fmt: skip
    monkeypatch.setattr(machine, "HERE", tmp_path / "bench")
    return tmp_path


def test_results_make_no_commit_dirty(repository: Path) -> None:
    """A run writes its pages while it goes on: what is measured is the commit all the same."""
    clean = machine._commit()
    (repository / "bench/results/engine.md").write_text("measured")
    (repository / "bench/results/new.svg").write_text("measured")
    assert (clean, False) == (machine._commit(), clean.endswith("-dirty"))


@pytest.mark.parametrize("name", ["bench/run.py", "engine/runtime.py"])
def test_what_is_measured_does(repository: Path, name: str) -> None:
    """The engine's code and the bench's own."""
    clean = machine._commit()
    (repository / name).write_text("changed")
    assert f"{clean}-dirty" == machine._commit()


def test_a_folder_without_history_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, or an unpacked archive."""
    monkeypatch.setattr(machine, "HERE", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "unknown" == machine._commit()
