"""text.c, by way of what uses it: escapes undone as Python does, and made so that it reads them."""

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from clib import ffi, lib
from tests.clib.engine import Engine
from tools.fuzz_frames import Scanner

SCANNER = Scanner()
characters = st.characters(exclude_categories=["Cs"])


def scanned(literal: bytes) -> bytes | None:
    """What the scanner makes of a JSON string without its quotes; None: it is odd."""
    fields = b'"b":"T","e":"0","f":"0","g":"1","h":"0","i":"' + literal + b'"'
    header = b'{"code":310,"opaque":1,"extFields":{' + fields + b"}}"
    assert SCANNER.scan(len(header).to_bytes(4) + header) == 0
    odd = SCANNER.request.odd & (lib.AP_ODD_FIELD | lib.AP_ODD_TEXT)
    return None if odd else SCANNER.text()


def escaped(text: str, rng: Any) -> str:
    """The text as JSON, each character in one of the forms that it may have."""
    forms = []
    for character in text:
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        ascii_only = json.dumps(character)[1:-1]
        units = character.encode("utf-16-be").hex(" ", 2).split()
        hex_form = "".join("\\u" + rng.choice((unit, unit.upper())) for unit in units)
        slash = "\\/" if character == "/" else plain
        forms.append(rng.choice((plain, ascii_only, hex_form, slash)))
    return "".join(forms)


@settings(max_examples=400)
@given(st.text(characters, max_size=30), st.randoms())
def test_every_form_of_every_character(text: str, rng: Any) -> None:
    literal = escaped(text, rng)
    assert json.loads(f'"{literal}"') == text
    assert scanned(literal.encode()) == text.encode()


@settings(max_examples=400)
@given(st.lists(st.binary(max_size=6) | st.text(characters, max_size=6).map(str.encode)))
def test_only_utf8_passes(parts: list[bytes]) -> None:
    data = b"".join(parts).replace(b'"', b"").replace(b"\\", b"")
    try:
        data.decode()
    except UnicodeDecodeError:
        assert scanned(data) is None
        assert scanned(data + b"\\n") is None
    else:
        assert scanned(data) == data
        assert scanned(data + b"\\n") == data + b"\n"


def test_every_two_byte_beginning() -> None:
    for first in range(0x80, 0x100):
        for second in range(0x100):
            for tail in (b"", b"\x80", b"\x80\x80", b"\xbf\xbf"):
                data = bytes((first, second)) + tail
                if second in b'"\\':
                    continue
                valid = data.decode("utf-8", "ignore").encode() == data
                assert (scanned(data) is not None) == valid, data


@settings(max_examples=200)
@given(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n\t\0"\\'), max_size=60
    )
)
def test_remarks_are_read_by_strict_readers(remark: str) -> None:
    data = remark.replace("\0", "\x01").encode()
    engine = Engine()
    connection = engine.connect()
    code = lib.ap_answer_code(engine.net, connection, 7, 2, ffi.new("char[]", data))
    assert code == (0 if len(data) <= lib.AP_REMARK_MAX else lib.AP_EINVAL)
    if code == 0:
        engine.flush()
        frame = engine.read(connection)
        assert json.loads(frame[8:])["remark"] == data.decode()
