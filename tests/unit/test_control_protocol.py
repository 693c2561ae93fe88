from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopd.control import protocol
from hopd.control.protocol import LineSplitter, Request, RequestRefused
from hopd.errors import ControlError

IDS = st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=50).filter(lambda text: text.isprintable())
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8"))
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner), max_leaves=10)
ARGS = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=20), VALUES, max_size=4)


def refusal(line: bytes) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        protocol.decode_request(line)
    return caught.value


@given(st.text(st.characters(codec="utf-8")), ARGS, IDS)
def test_a_request_arrives_as_it_was_sent(cmd: str, args: dict[str, Any], request_id: protocol.Id) -> None:
    request = Request(cmd, args, request_id)
    line = protocol.encode_request(request)
    assert line.count(b"\n") == 1
    assert protocol.decode_request(line) == request


@given(VALUES, IDS)
def test_a_result_arrives_as_it_was_sent(result: Any, request_id: protocol.Id) -> None:
    assert protocol.decode_reply(protocol.encode_result(request_id, result)) == result


def test_an_error_arrives_as_it_was_sent() -> None:
    with pytest.raises(ControlError, match="still running") as caught:
        protocol.decode_reply(protocol.encode_error(7, ControlError("timeout", "still running", {"running": {"a": 1}})))
    assert (caught.value.code, caught.value.details) == ("timeout", {"running": {"a": 1}})


def test_id_and_args_may_be_left_out() -> None:
    assert protocol.decode_request(b'{"v":1,"cmd":"ping"}') == Request("ping", {}, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"\n", "one JSON object"),
        (b"hello\n", "one JSON object"),
        (b"[1]\n", "got a list"),
        (b"7\n", "got a number"),
        (b"null\n", "got null"),
        (b'"ping"\n', "got a string"),
        (b'{"v":1,"cmd":"ping"\x00}\n', "one JSON object"),
        (b'{"v":1,"cmd":"pi\x00ng"}\n', "one JSON object"),
        (b'{"v":1,"cmd":"\xff"}\n', "UTF-8"),
        (b'{"v":1,"cmd":"ping","args":{"x":NaN}}\n', "NaN is no JSON"),
        (b'{"v":1,"cmd":"ping","args":{"x":-Infinity}}\n', "Infinity is no JSON"),
        (b'{"v":1,"cmd":"ping","args":{"x":1e999}}\n', "out of range"),
        (b'{"v":1,"cmd":"ping","args":{"x":' + b"[" * 60_000 + b"\n", "nested too deeply"),
        (b'{"v":1,"cmd":"ping","args":' + b'{"a":' * 10_000 + b"\n", "nested too deeply"),
        (b'{"v":1,"cmd":"ping","cmd":"shutdown"}\n', "twice"),
        (b'{"v":1,"cmd":"\\ud800"}\n', "UTF-8"),
        (b'{"cmd":"ping"}\n', "names its version"),
        (b'{"v":true,"cmd":"ping"}\n', "names its version"),
        (b'{"v":"1","cmd":"ping"}\n', "names its version"),
        (b'{"v":1}\n', "names its command"),
        (b'{"v":1,"cmd":7}\n', "names its command"),
        (b'{"v":1,"cmd":"ping","args":[]}\n', "args is an object, got a list"),
        (b'{"v":1,"cmd":"ping","arg":{}}\n', "got 'arg'"),
        (b'{"v":1,"cmd":"ping","id":1.5}\n', "id is"),
        (b'{"v":1,"cmd":"ping","id":true}\n', "id is"),
        (b'{"v":1,"cmd":"ping","id":' + b"9" * 30 + b"}\n", "id is"),
        (b'{"v":1,"cmd":"ping","id":"' + b"x" * 201 + b'"}\n', "id is"),
    ],
)
def test_what_is_no_request_is_a_bad_request(line: bytes, words: str) -> None:
    refused = refusal(line)
    assert refused.code == "bad_request"
    assert words in str(refused)
    assert len(str(refused)) < 300


def test_a_number_of_5000_digits_is_not_worth_a_crash() -> None:
    line = b'{"v":1,"cmd":"ping","id":' + b"9" * 5000 + b"}\n"
    assert refusal(line).code == "bad_request"


@pytest.mark.parametrize("version", [0, 2, -1, 10**20])
def test_another_version_is_named_as_such_and_keeps_its_id(version: int) -> None:
    refused = refusal(json.dumps({"v": version, "id": "a", "cmd": "ping"}).encode())
    assert (refused.code, refused.id) == ("unsupported_version", "a")


@given(st.binary())
def test_any_bytes_are_a_request_or_a_refusal(line: bytes) -> None:
    try:
        decoded: Request | str = protocol.decode_request(line)
    except RequestRefused as refused:
        decoded = refused.code
    assert isinstance(decoded, Request) or decoded in {"bad_request", "unsupported_version"}


def test_a_request_that_would_not_fit_is_not_sent() -> None:
    with pytest.raises(ControlError) as caught:
        protocol.encode_request(Request("put", {"body": "x" * protocol.MAX_LINE}))
    assert caught.value.code == "too_long"


def test_a_request_with_what_is_no_text_is_not_sent() -> None:
    with pytest.raises(ControlError) as caught:
        protocol.encode_request(Request("pause", {"topics": ["\udcff"]}))
    assert caught.value.code == "bad_args"


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"[]\n",
        b"{}\n",
        b'{"v":1}\n',
        b'{"v":1,"ok":true}\n',
        b'{"v":1,"ok":false}\n',
        b'{"v":1,"ok":false,"error":{"code":1,"message":"x"}}\n',
        b'{"v":2,"ok":true,"result":1}\n',
        b'{"v":1,"ok":true,"result":' + b"[" * 60_000 + b"\n",
    ],
)
def test_what_is_no_reply_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        protocol.decode_reply(line)


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"") + b"\n")), st.data())
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(lines)
    splitter, found = LineSplitter(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        splitter.feed(stream[:size])
        stream = stream[size:]
        while (line := splitter.next_line()) is not None:
            found.append(line)
    assert found == lines
    assert not splitter.partial


@pytest.mark.parametrize("received", [b"x" * 64, b"x" * 65 + b"\n", b"x" * 64 + b"\n"])
def test_a_line_over_the_limit_is_refused(received: bytes) -> None:
    splitter = LineSplitter(limit=64)
    splitter.feed(received)
    with pytest.raises(RequestRefused) as caught:
        splitter.next_line()
    assert caught.value.code == "too_long"


def test_a_line_of_just_the_limit_is_taken() -> None:
    splitter = LineSplitter(limit=64)
    splitter.feed(b"x" * 63 + b"\n")
    assert splitter.next_line() == b"x" * 63 + b"\n"


def test_the_last_line_needs_no_newline() -> None:
    splitter = LineSplitter()
    splitter.feed(b"one\ntwo")
    assert (splitter.next_line(), splitter.next_line(), splitter.rest()) == (b"one\n", None, b"two")
