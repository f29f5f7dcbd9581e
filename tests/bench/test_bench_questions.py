"""The questions themselves: each is asked by `make bench`, is on the page, and speaks of its own cases and figures."""

import ast
import importlib
import re

import pytest
from measuring import index
from measuring.figures import FIGURES
from measuring.question import Question
from measuring.result import page_with_plot, read

from checkout import ROOT

BENCH = ROOT / "bench"
SCRIPTS = sorted(path.stem for path in BENCH.glob("*.py") if "\nQUESTION = " in path.read_text(encoding="utf-8"))


@pytest.fixture(params=SCRIPTS)
def question(request: pytest.FixtureRequest) -> Question:
    """Each question in turn; its script is loaded under a name of its own, for bench/engine.py is not engine/."""
    spec = importlib.util.spec_from_file_location(f"bench_{request.param}", BENCH / f"{request.param}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Question = module.QUESTION
    assert request.param == found.name
    return found


def asked() -> tuple[str, ...]:
    """Return what `bench/run.py` asks, in its order."""
    tree = ast.parse((BENCH / "run.py").read_text(encoding="utf-8"))
    return next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "QUESTIONS"
    )


def test_every_question_is_asked() -> None:
    """`bench/run.py` asks each script with a question, and asks none that is not there."""
    assert SCRIPTS == sorted(asked())


def test_every_question_stands_on_the_page() -> None:
    """docs/bench.md names each question's script in its table."""
    page = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
    assert SCRIPTS == sorted(set(re.findall(r"^\| `bench/(\w+)\.py`", page, re.MULTILINE)) & set(SCRIPTS))


def test_a_question_speaks_of_its_own_cases(question: Question) -> None:
    """Names are given once; what a case or a promise is measured against is a case, also in a quick run."""
    names = [case.name for case in question.cases]
    quick = {case.name for case in question.cases if case.quick_jobs}
    assert len(names) == len(set(names))
    assert quick
    for case in question.cases:
        assert set(case.against) <= set(names)
        assert case.name not in quick or set(case.against) <= quick
    for target in question.targets:
        assert {target.case, target.against or target.case} <= set(names)


def test_a_question_shows_figures_that_have_titles(question: Question) -> None:
    """What is shown, compared, drawn or promised is a figure with a title."""
    shown = {*question.figures, *question.compared, *question.plot.figures, *(each.figure for each in question.targets)}
    assert set() == shown - set(FIGURES)


def test_probes_know_the_options_of_their_cases(question: Question) -> None:
    """Every option of a case is one that its probe declares."""
    common = {"loop", "slots", "fsync", "jobs"}
    for case in question.cases:
        text = (BENCH / "probes" / f"{case.probe}.py").read_text(encoding="utf-8")
        declared = {found.replace("-", "_") for found in re.findall(r'add_argument\(\s*"--([\w-]+)"', text)}
        assert set() == set(case.options) - declared - common


def test_a_committed_page_is_what_its_json_says(question: Question) -> None:
    """Each page of results is made from the JSON beside it: `python bench/run.py --render` would change nothing."""
    found = read(question, BENCH / "results")
    assert page_with_plot(found) == (BENCH / "results" / f"{question.name}.md").read_text(encoding="utf-8")


def test_the_committed_index_is_what_the_answers_say() -> None:
    """The index of results has each answer as it lies there, with every promise and what came of it."""
    results = BENCH / "results"
    assert index.page(results, asked(), []) == (results / "README.md").read_text(encoding="utf-8")
