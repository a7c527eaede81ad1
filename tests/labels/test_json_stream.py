"""JSON an entry at a time is the JSON that json.loads reads, however it is cut into chunks."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.labels import json_stream

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.lists(VALUES, max_size=5) | st.dictionaries(st.text(max_size=4), VALUES, max_size=5)
PATCHED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def rebuilt(content: bytes) -> Any:
    """The document of the entries, each of which is where it says it is."""
    document: Any = [] if content.lstrip().startswith(b"[") else {}
    for entry in json_stream.entries(io.BytesIO(content)):
        if entry.starts_list:
            document[entry.key] = []
            continue
        assert json.loads(content[entry.start : entry.stop]) == entry.value
        if not entry.in_list:
            document[entry.key] = entry.value
        else:
            (document if entry.key is None else document[entry.key]).append(entry.value)
    return document


@given(DOCUMENTS, st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
@PATCHED
def test_entries_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, document: Any, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    content = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(content)
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            rebuilt(content)
        return
    assert rebuilt(content) == expected


@pytest.mark.parametrize("chunk", [1, 5, 1000])
@pytest.mark.parametrize("text", ["", "7", "[1,", "[1 2]", '{"a" 1}', '{"a": [1}', "{1: 2}", "[1] x", '["a', "[tru]"])
def test_what_is_no_json_says_where(monkeypatch: pytest.MonkeyPatch, text: str, chunk: int) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    with pytest.raises(DataError, match=r"not JSON: .*\(byte \d+\)|neither a JSON object nor a JSON list"):
        rebuilt(text.encode())
