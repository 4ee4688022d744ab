"""The multipart parser: senders' habits, and the same parts however the body is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb.errors import MalformedMultipart, PayloadTooLarge
from dicomweb.multipart import MultipartParser, PartBegin, PartData, PartEnd


def parse(*chunks: bytes, boundary: str = "b", **limits) -> list[tuple[dict[str, str], bytes]]:
    parser = MultipartParser(boundary, **limits)
    parts: list[tuple[dict[str, str], bytearray]] = []
    ended = 0
    for chunk in chunks:
        for event in parser.feed(chunk):
            if isinstance(event, PartBegin):
                parts.append((event.headers, bytearray()))
            elif isinstance(event, PartData):
                parts[-1][1].extend(event.data)
            else:
                assert isinstance(event, PartEnd)
                ended += 1
    parser.finish()
    assert ended == len(parts)
    return [(headers, bytes(data)) for headers, data in parts]


@pytest.mark.parametrize(
    ("habit", "body", "parts"),
    [
        ("as written", b"--b\r\nA: 1\r\n\r\nxy\r\n--b--\r\n", [({"a": "1"}, b"xy")]),
        ("line end first", b"\r\n--b\r\nA: 1\r\n\r\nxy\r\n--b--", [({"a": "1"}, b"xy")]),
        ("preamble", b"hello\r\n--b\r\nA: 1\r\n\r\nxy\r\n--b--", [({"a": "1"}, b"xy")]),
        ("epilogue", b"--b\r\nA: 1\r\n\r\nxy\r\n--b--\r\nbye --b", [({"a": "1"}, b"xy")]),
        ("no headers", b"--b\r\n\r\nxy\r\n--b--", [({}, b"xy")]),
        ("LF only", b"--b\nA: 1\n\nxy\n--b--\n", [({"a": "1"}, b"xy")]),
        ("LF only, data ends in CR", b"--b\n\nxy\r\n--b--\n", [({}, b"xy\r")]),
        ("white space behind the boundary", b"--b \t\r\n\r\nxy\r\n--b--", [({}, b"xy")]),
        ("empty part", b"--b\r\n\r\n\r\n--b--", [({}, b"")]),
        ("folded header", b"--b\r\nA: 1;\r\n  q=2\r\n\r\nx\r\n--b--", [({"a": "1; q=2"}, b"x")]),
        ("data that looks alike", b"--b\r\n\r\n\r\n--bx\r\n--b--", [({}, b"\r\n--bx")]),
        ("two parts", b"--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--", [({}, b"1"), ({}, b"2")]),
    ],
)
def test_what_senders_do_is_understood(habit, body, parts):
    assert parse(body) == parts, habit
    assert parse(*[bytes([one]) for one in body]) == parts, habit


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"xy",
        b"--b",
        b"--b\r\n",
        b"--b\r\nA: 1\r\n\r\nxy",
        b"--b\r\nA: 1\r\n\r\nxy\r\n--b",
        b"--b\r\nno colon\r\n\r\nxy\r\n--b--",
        b"--b\r\n" + b"A: 1\r\n" * 10_000,
        b"x" * 100_000,
    ],
)
def test_a_broken_body_is_refused(body):
    with pytest.raises(MalformedMultipart):
        parse(body)


@pytest.mark.parametrize("boundary", ["", "a" * 201, "a*b", "ends with space ", "ä"])
def test_a_boundary_far_outside_of_the_grammar_is_refused(boundary):
    with pytest.raises(MalformedMultipart):
        MultipartParser(boundary)


def test_too_many_parts_are_refused():
    with pytest.raises(PayloadTooLarge):
        parse(b"--b\r\n\r\n" * 1 + b"x\r\n--b\r\n\r\n" * 5, max_parts=3)


# Data rich in what could be taken for a delimiter.
pieces = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"--", b"b", b"--b", b"\r\n--", b"x", b"\0", b"\r\n--bz"]),
    max_size=30,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(pieces, max_size=4),
    st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=20),
    st.sampled_from([b"\r\n", b"\n"]),
)
def test_any_cutting_of_a_body_gives_the_same_parts(contents, sizes, end):
    real = [one for one in contents if not _holds_delimiter(end + one + end, end)]
    body = b"".join(b"--b" + end + b"N: v" + end * 2 + one + end for one in real) + b"--b--" + end
    chunks, position, turn = [], 0, 0
    while position < len(body):
        size = sizes[turn % len(sizes)]
        chunks.append(body[position : position + size])
        position, turn = position + size, turn + 1

    assert parse(*chunks) == parse(body) == [({"n": "v"}, one) for one in real]


def _holds_delimiter(data: bytes, end: bytes) -> bool:
    """Whether the data itself holds what RFC 2046 calls a delimiter line."""
    marks = [end + b"--b" + after for after in (b"--", b"\r", b"\n", b" ", b"\t")]
    return any(mark in data for mark in marks) or any(m in data[: -len(end)] + b"" for m in marks)
