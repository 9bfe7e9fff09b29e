"""Files of clicks with any damage: they are read, or refused in one sentence."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextclick.errors import PermanentError
from tools.click_files import blocks, collect, tables
from tools.click_files.choices import AUTO, Choices
from tools.click_files.layouts import FORMATS
from tools.click_files.read import read_clicks
from tools.click_files.recognise import recognise

MAX_MESSAGE = 1_000  # characters


def _zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("clicks.csv", content)
    return file.getvalue()


def _table(form: str) -> bytes:
    table = pa.table({"user_id": ["a", "b"], "item_id": [1.0, 2.0], "timestamp": [1_764_000_000, 1_764_000_001]})
    file = io.BytesIO()
    parquet.write_table(table, file) if form == "parquet" else feather.write_feather(table, file)
    return file.getvalue()


CSV = b'user_id,item_id,note,timestamp,event_type\nu,a,"x",1764000000,view\nv,b,"y, ""z""",2025-11-24T16:00:00Z,cart\n'
SAMPLES = [
    CSV,
    CSV.decode().encode("utf-16"),
    b"1::17::4::944249077\n1::25::1.5::944250228\n",
    b"1,2268318,2520377,pv,1511544070\n1,2333346,2520771,fav,1511561733\n",
    b"1\tU1\t11/11/2019 9:05:58 AM\tN1\tN2-1 N3-0\n2\tU2\t11/12/2019 6:11:30 PM\t\tN4-1\n",
    json.dumps({"session": 1, "events": [{"aid": 1, "ts": 1661200010000, "type": "clicks"}]}).encode() + b"\n",
    json.dumps({"user_id": "u", "item_id": 7, "timestamp_ms": 1764000000000}).encode() + b"\n[{}]\n",
    *(pack(CSV) for pack in (gzip.compress, bz2.compress, lzma.compress, _zipped)),
    _table("parquet"),
    _table("feather"),
]
PIECES = [
    b'"',
    b"\r",
    b"\n",
    b"\0",
    b"\xff",
    b",",
    b"\t",
    b"\xed\xa0\x80",
    b"1e999",
    b"\\ud800",
    b"9" * 25,
    b"[",
    *SAMPLES,
]


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    content = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.integers(0, 30))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
        content = content[:start] + piece + content[end:]
    return content


CHOICES = st.builds(
    Choices,
    user=st.sampled_from([None, None, None, "user_id", "1", "a|b", "", "|", "x.y"]),
    item=st.sampled_from([None, None, None, "item_id", "2", "note"]),
    time=st.sampled_from([None, None, "", "timestamp", "4"]),
    event=st.sampled_from([None, None, "", "event_type", "user_id"]),
    events=st.sampled_from([None, None, "view,cart", "pv:view", "x:y"]),
    where=st.sampled_from([{}, {}, {"user_id": "u"}, {"": "x"}]),
    separator=st.sampled_from([None, None, None, ",", "::", '"', "\n", "\u00e9"]),
    has_header=st.sampled_from([True, True, True, False]),
    has_quotes=st.booleans(),
    skip_bad=st.booleans(),
)


@given(_damaged(), st.sampled_from([AUTO] * 30 + list(FORMATS)), CHOICES, st.sampled_from([16, 1 << 23]))
def test_a_damaged_file_is_read_or_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, file_format: str, choices: Choices, block_bytes: int
) -> None:
    """With any options; in blocks and parts of any size."""
    path = tmp_path_factory.mktemp("files") / "clicks"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(blocks, "_BLOCK_BYTES", block_bytes)
        small.setattr(collect, "_SORTED_AT_ONCE", 2)
        small.setattr(collect, "_EVERY", 1)
        small.setattr(tables, "_ROWS_AT_ONCE", 1)
        try:
            clicks = read_clicks(recognise(path, file_format, choices), say=lambda line: None)
        except PermanentError as error:
            message = str(error)
        else:
            message = ""
            assert len(list(clicks.between(0, len(clicks)))) == len(clicks)

    assert "\n" not in message
    assert len(message) < MAX_MESSAGE
