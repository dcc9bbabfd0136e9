"""The table of response codes."""

from appliance.net import responses


def test_constants_and_rows_agree() -> None:
    for code, row in responses.BY_CODE.items():
        assert getattr(responses, row.name) == code == row.code


def test_names() -> None:
    assert responses.name_of(17) == "TOPIC_NOT_EXIST"
    assert responses.name_of(-9) == "-9"
