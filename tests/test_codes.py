"""docs/requests.md is what the request table says."""

from tools import codes


def test_the_page_is_up_to_date() -> None:
    assert codes.page() == codes.PAGE.read_text(), "run `python -m tools.codes --write`"
