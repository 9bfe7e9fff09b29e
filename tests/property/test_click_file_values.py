"""Laws of files of clicks: their values mean what they mean in the stream, and no line vanishes."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nextclick.errors import PermanentError
from nextclick.schema.ids import read_id
from nextclick.schema.times import read_time_ms
from tools.click_files.blocks import blocks
from tools.click_files.choices import Choices, ClickFile
from tools.click_files.collect import Ids
from tools.click_files.read import read_clicks
from tools.click_files.times import BAD_TIME, NO_TIME, times_ms

MANY = settings(max_examples=400, deadline=None)

_YEARS = st.datetimes(datetime(1960, 1, 1), datetime(2110, 1, 1))
_ZONES = st.sampled_from(["", "Z", " UTC", "+00:00", "+02:00", "-0530", "[UTC]", "Z[UTC]", " GMT", "z", " +01:00"])
_FRACTIONS = st.integers(0, 9).flatmap(lambda n: st.from_regex(rf"\.[0-9]{{{n}}}" if n else "", fullmatch=True))
_MOMENTS = st.builds(
    lambda moment, form, fraction, zone: moment.strftime(form) + fraction + zone,
    _YEARS,
    st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S"]),
    _FRACTIONS,
    _ZONES,
)
_NUMBERS = st.integers(0, 21).flatmap(lambda n: st.integers(0, 10**n))
_TIMES = st.one_of(
    _MOMENTS,
    _NUMBERS.map(str),
    st.floats(0, 1e20).map(repr),
    st.floats(1e9, 2e9).map(lambda number: f"{number:.3f}"),
    _YEARS.map(lambda moment: moment.strftime("%Y%m%d")),
    _YEARS.map(lambda moment: moment.strftime("%Y%m%d%H%M%S")),
    _YEARS.map(lambda moment: moment.strftime("%Y-%m-%d")),
    st.from_regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,7})?Z?", fullmatch=True),
    st.sampled_from(
        ["", "0", "0.0", "-1", "nan", "inf", "soon", "1e9", "1.764e9", "+17", "1_0", "0x1F", "\uff11\uff12", ".5"]
    ),
    st.text(max_size=8),
)
_IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@MANY
@given(st.lists(_TIMES, min_size=1, max_size=12))
def test_a_column_of_times_is_read_as_the_stream_reads_each(texts: list[str]) -> None:
    """Whatever stands beside a value."""
    assert times_ms(pa.array(texts, pa.string())).tolist() == [_time(text) for text in texts]


@MANY
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | _NUMBERS.filter(lambda n: n < 2**63), max_size=12))
def test_a_column_of_numbers_is_read_as_the_stream_reads_each(numbers: list[int | None]) -> None:
    """Whole ones, and nothing."""
    assert times_ms(pa.array(numbers, pa.int64())).tolist() == [_time(number) for number in numbers]


@MANY
@given(st.lists(st.none() | st.floats(-10, 9e18) | st.floats(1e9, 2e9), max_size=12))
def test_a_column_of_fractions_is_read_as_the_stream_reads_each(numbers: list[float | None]) -> None:
    """Seconds, and what is larger."""
    assert times_ms(pa.array(numbers, pa.float64())).tolist() == [_time(number) for number in numbers]


@MANY
@given(st.lists(st.none() | _YEARS, max_size=12), st.sampled_from(["s", "ms", "us", "ns"]))
def test_a_column_of_moments_is_read_as_the_stream_reads_their_text(moments: list[datetime | None], unit: str) -> None:
    """In the unit of the file; what is before 1970 is no time."""
    whole = [None if moment is None else moment - timedelta(microseconds=moment.microsecond) for moment in moments]

    read = times_ms(pa.array(whole, pa.timestamp(unit))).tolist()

    assert read == [_time(None if moment is None else moment.replace(tzinfo=UTC).isoformat()) for moment in whole]


@pytest.mark.parametrize("n_parts", [1, 16])
@given(st.lists(st.lists(_IDS, max_size=20), max_size=8))
@MANY
def test_each_id_has_one_number(n_parts: int, batches: list[list[str]]) -> None:
    """However they come; in one part, in the order in which they come first."""
    ids = Ids(n_parts)
    for batch in batches:
        ids.add(pa.array(batch, pa.string()))
    everything = [each for batch in batches for each in batch]

    values, numbers = ids.finish()

    assert values.take(pa.array(numbers)).to_pylist() == everything
    assert sorted(values.to_pylist()) == sorted(set(everything))
    if n_parts == 1:
        assert values.to_pylist() == list(dict.fromkeys(everything))


@MANY
@given(st.integers(-(2**53), 2**53), _NUMBERS.filter(lambda n: 0 < n < 10**10))
def test_a_number_is_the_same_id_in_a_file_and_in_the_stream(
    tmp_path_factory: pytest.TempPathFactory, item: int, user: int
) -> None:
    """Also where a program wrote it as a fraction."""
    path = tmp_path_factory.mktemp("ids") / "clicks"
    path.write_text(f"user_id,item_id\n{user},{item:d}.0\n")

    ((got_user, got_item, _, _),) = read_clicks(ClickFile(path=path, file_format="csv"), say=_quiet).between(0, 1)

    assert (got_user, got_item) == (read_id(user), read_id(float(item)))


_LINES = st.lists(
    st.one_of(
        st.tuples(_IDS, _IDS).map(lambda pair: f"{pair[0]},{pair[1]}"),
        st.sampled_from(
            ['u,"a"', 'u,"a', 'u,a"', '"u","a ""b"""', "", "u", "u,a,b", 'u,"a" b', "u,a\r", ",", '"', " "]
        ),
    ),
    max_size=12,
)


@MANY
@given(_LINES)
def test_every_line_is_a_click_or_is_spoken_of(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """What was read, what was skipped and what is empty are all the lines of the file, with and without quotes."""
    lines = [line.replace("\n", "") for line in lines]
    path = tmp_path_factory.mktemp("lines") / "clicks"
    path.write_text("user_id,item_id\n" + "".join(f"{line}\n" for line in lines), newline="")
    n_filled = sum(bool(line.strip()) for line in lines)

    for has_quotes in (True, False):
        said: list[str] = []
        file = ClickFile(path=path, file_format="csv", choices=Choices(skip_bad=True, has_quotes=has_quotes))
        try:
            n_clicks = len(read_clicks(file, say=said.append))
        except PermanentError as nothing:
            assume("is a file of bytes that are no text" not in str(nothing))  # which is said of all of it
            n_clicks, said = 0, [str(nothing)]
        assert n_clicks + sum(map(_n_spoken_of, said)) == n_filled


@MANY
@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 40))
def test_blocks_hold_all_lines_in_order(lines: list[bytes], n_bytes: int) -> None:
    """Whatever a read gives, whatever quotes there are."""
    content = b"".join(line.replace(b"\n", b"").replace(b"\r", b"") + b"\n" for line in lines)

    cut = list(blocks("clicks", _Slow(content, n_bytes)))  # type: ignore[arg-type]

    assert b"".join(block.content for block in cut) == content
    assert all(block.content.endswith(b"\n") for block in cut)
    assert [block.first_line for block in cut] == [
        1 + sum(block.content.count(b"\n") for block in cut[:place]) for place in range(len(cut))
    ]


class _Slow:
    """A file that gives a few bytes at once."""

    def __init__(self, content: bytes, n_bytes: int) -> None:
        self._content = content
        self._n_bytes = n_bytes

    def read(self, _n_bytes: int) -> bytes:
        start, self._content = self._content[: self._n_bytes], self._content[self._n_bytes :]
        return start


def _time(value: object) -> int:
    try:
        time_ms = read_time_ms(value)
    except (ValueError, OverflowError):
        return BAD_TIME
    return NO_TIME if time_ms is None else min(time_ms, 2**63 - 1)


def _n_spoken_of(line: str) -> int:
    """Read from a message how many lines it is about."""
    total = 0
    for part in line.split("; "):
        words = part.replace(",", "").split()
        if "skipped" in words:
            total += 1 if words[-1] == "it" else int(words[words.index("skipped") + 1])
        elif "lines are inside" in part:
            total += int(words[words.index("lines") - 1])
        elif "left out as a worker" in " ".join(words):
            named = part.partition(": left out")[0]
            total += named.count("line ") + (int(named.split(" and ")[1].split()[0]) if " and " in named else 0)
    return total


def _quiet(line: str) -> None:
    pass
