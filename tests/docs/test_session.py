"""What the reader of the pages looks for in what commands print."""

from session import unprinted

PRINTED = "headrace: the API is at http://127.0.0.1:8787\nworking queues=['default']\n"


def test_one_command_prints_in_the_order_of_the_page() -> None:
    """A line that came before the one that the page shows before it, was not printed where the page says."""
    assert unprinted(("headrace: the API ...", "working ..."), PRINTED) is None
    assert "headrace: the API ..." == unprinted(("working ...", "headrace: the API ..."), PRINTED)


def test_several_processes_print_in_any_order() -> None:
    """A worker and an API that share a terminal print when each is ready, and what neither printed is still told."""
    assert unprinted(("working ...", "headrace: the API ..."), PRINTED, in_order=False) is None
    assert "ended" == unprinted(("working ...", "ended"), PRINTED, in_order=False)
