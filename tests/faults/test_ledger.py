"""The checker must find each kind of damage, and must not find what is right."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.ledger import (
    Entry,
    Place,
    Report,
    Stored,
    check,
    read_ledger,
    read_stored,
)

Books = tuple[dict[str, Entry], list[Stored]]


def place(queue: int, queue_offset: int) -> Place:
    return Place("t", queue, queue_offset, f"{queue:016X}{queue_offset:016X}")


def kinds(report: Report) -> set[str]:
    """The kinds of damage that were found."""
    return {name for name, findings in report.kinds() if findings}


@pytest.fixture
def books() -> Books:
    """Twelve messages, one after the other acknowledged, over two queues: all is well."""
    ledger, drained = {}, []
    for queue in range(2):
        for queue_offset in range(6):
            sequence = 2 * queue_offset + queue
            name, body = f"id-{sequence}", f"hash-{sequence}"
            where = place(queue, queue_offset)
            ledger[name] = Entry(name, sequence, body, 10 * sequence, 1, 10 * sequence + 5, where)
            drained.append(Stored(name, body, where))
    return ledger, drained


def unacknowledged(entry: Entry, attempt_count: int) -> Entry:
    return replace(entry, attempt_count=attempt_count, acked_ns=0, place=None)


def test_all_is_well(books: Books) -> None:
    ledger, drained = books
    assert check(ledger, drained, seen=drained).clean


def test_an_acknowledged_message_that_is_gone_is_lost(books: Books) -> None:
    ledger, drained = books
    report = check(ledger, drained[:-1])
    assert kinds(report) == {"lost"}
    assert "id-11" in report.lost[0]


@pytest.mark.parametrize("attempt_count", [1, 3])
def test_an_unacknowledged_message_may_be_missing(books: Books, attempt_count: int) -> None:
    ledger, drained = books
    ledger["id-11"] = unacknowledged(ledger["id-11"], attempt_count)
    assert check(ledger, drained[:-1]).clean


@pytest.mark.parametrize("attempt_count", [1, 3])
def test_an_unacknowledged_message_may_be_stored(books: Books, attempt_count: int) -> None:
    ledger, drained = books
    ledger["id-11"] = unacknowledged(ledger["id-11"], attempt_count)
    assert check(ledger, drained).clean


def test_a_message_that_never_left_the_client_must_not_be_stored(books: Books) -> None:
    ledger, drained = books
    ledger["id-11"] = unacknowledged(ledger["id-11"], 0)
    assert kinds(check(ledger, drained)) == {"duplicated"}


def test_a_double_of_two_attempts_is_right(books: Books) -> None:
    ledger, drained = books
    ledger["id-11"].attempt_count = 2
    assert check(ledger, [*drained, drained[-1]._replace(place=place(1, 6))]).clean


def test_a_double_of_one_attempt_is_wrong(books: Books) -> None:
    ledger, drained = books
    report = check(ledger, [*drained, drained[-1]._replace(place=place(1, 6))])
    assert kinds(report) == {"duplicated"}


def test_an_unacknowledged_double_of_one_attempt_is_wrong(books: Books) -> None:
    ledger, drained = books
    ledger["id-11"] = unacknowledged(ledger["id-11"], 1)
    report = check(ledger, [*drained, drained[-1]._replace(place=place(1, 6))])
    assert kinds(report) == {"duplicated"}


def test_without_an_outcome_any_number_of_copies_is_right(books: Books) -> None:
    ledger, drained = books
    ledger["id-11"] = replace(unacknowledged(ledger["id-11"], 1), attempt_count=None)
    assert check(ledger, [*drained, drained[-1]._replace(place=place(1, 6))]).clean


def test_two_that_changed_places_are_reordered(books: Books) -> None:
    ledger, drained = books
    drained[0], drained[1] = (
        drained[1]._replace(place=drained[0].place),
        drained[0]._replace(place=drained[1].place),
    )
    report = check(ledger, drained)
    assert kinds(report) == {"reordered"}
    assert len(report.reordered) == 2


def test_another_physical_offset_is_another_place(books: Books) -> None:
    ledger, drained = books
    drained[3] = drained[3]._replace(place=drained[3].place._replace(offset_id="F" * 32))
    assert kinds(check(ledger, drained)) == {"reordered"}


def test_a_later_message_before_an_acknowledged_one_is_reordered(books: Books) -> None:
    ledger, drained = books
    early, late = ledger["id-8"], ledger["id-10"]
    early.place, late.place = late.place, early.place
    assert early.place is not None
    assert late.place is not None
    drained[4] = Stored("id-10", "hash-10", late.place)
    drained[5] = Stored("id-8", "hash-8", early.place)
    report = check(ledger, drained)
    assert kinds(report) == {"reordered"}
    assert "sent later" in report.reordered[0]


def test_messages_under_way_together_may_stand_in_any_order(books: Books) -> None:
    ledger, drained = books
    early, late = ledger["id-8"], ledger["id-10"]
    early.place, late.place = late.place, early.place
    early.acked_ns = late.sent_ns + 1
    assert early.place is not None
    assert late.place is not None
    drained[4] = Stored("id-10", "hash-10", late.place)
    drained[5] = Stored("id-8", "hash-8", early.place)
    assert check(ledger, drained).clean


def test_a_gap_in_a_queue_is_reordered(books: Books) -> None:
    ledger, drained = books
    ledger["id-4"] = unacknowledged(ledger["id-4"], 1)
    del drained[2]
    report = check(ledger, drained)
    assert kinds(report) == {"reordered"}
    assert report.reordered == ["t/0/3 stands where 2 should"]


def test_a_record_that_is_read_twice_is_reordered_and_duplicated(books: Books) -> None:
    ledger, drained = books
    drained.insert(2, drained[1])
    assert kinds(check(ledger, drained)) == {"reordered", "duplicated"}


def test_another_body_is_foreign(books: Books) -> None:
    ledger, drained = books
    drained[4] = drained[4]._replace(body_hash="of another connection")
    assert kinds(check(ledger, drained)) == {"foreign"}


def test_a_message_that_nobody_sent_is_foreign(books: Books) -> None:
    ledger, drained = books
    report = check(ledger, [*drained, Stored("id-99", "hash-99", place(1, 6))])
    assert kinds(report) == {"foreign"}


def test_what_was_shown_and_is_gone_is_a_phantom(books: Books) -> None:
    ledger, drained = books
    ledger["id-11"] = unacknowledged(ledger["id-11"], 1)
    report = check(ledger, drained[:-1], seen=drained)
    assert kinds(report) == {"phantom"}


def test_what_was_shown_in_another_place_is_a_phantom(books: Books) -> None:
    ledger, drained = books
    shown = drained[5]._replace(place=place(0, 4))
    assert kinds(check(ledger, drained, seen=[shown])) == {"phantom"}


def test_the_report_counts_and_shows(books: Books) -> None:
    ledger, _ = books
    text = str(check(ledger, []))
    assert text.startswith("lost: 12\n    id-0 was acknowledged at t/0/0\n")
    assert text.count("was acknowledged") == 10
    assert "phantom: 0" in text


def test_the_files_of_the_java_programs_are_read(tmp_path: Path) -> None:
    sent, stored = tmp_path / "sent", tmp_path / "stored"
    sent.write_text(
        "sent\tA\t100\t0\thash-a\n"
        "sent\tB\t101\t1\thash-b\n"
        "acked\tA\t105\t2\tt\t3\t7\tF00\n"
        "unknown\tB\t106\t3\torg.apache.SomeException: timeout\n"
        "sent\tC\t107\t2\thash-c\n"
        "acked\tC\t10"
    )
    stored.write_text("stored\tA\tt\t3\t7\thash-a\tF00\n")
    where = Place("t", 3, 7, "F00")
    assert read_ledger(sent) == {
        "A": Entry("A", 0, "hash-a", 100, 2, 105, where),
        "B": Entry("B", 1, "hash-b", 101, 3),
        "C": Entry("C", 2, "hash-c", 107),
    }
    assert read_stored(stored) == [Stored("A", "hash-a", where)]


@pytest.mark.parametrize("line", ["acked\tA\n", "stored\tA\n", "\n"])
def test_a_strange_line_is_an_error(tmp_path: Path, line: str) -> None:
    file = tmp_path / "file"
    file.write_text(line)
    with pytest.raises(ValueError, match="not a line"):
        read_ledger(file)
    with pytest.raises(ValueError, match="not a line"):
        read_stored(file)


def test_attempts_of_every_outcome_count(tmp_path: Path) -> None:
    path = tmp_path / "sent"
    path.write_text(
        "sent\tid\t1\t1\thash\nunknown\tid\t2\t2\ttime-out\nunknown\tid\t3\t1\ttime-out\n"
    )
    assert read_ledger(path)["id"].attempt_count == 3
