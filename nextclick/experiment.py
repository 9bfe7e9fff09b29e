"""A bundle that is tried on some users beside the champion: what is announced of it, who gets it, what is counted.

A canary answers its share of the users. A shadow answers nobody: its lists are made for its share of the users beside
those that they get, and are only counted. What the counts mean, `nextclick.experiment_judgement` says.
"""

from typing import Annotated, Literal, NamedTuple

import msgspec

from nextclick.clicks import MAX_TIMESTAMP_MS
from nextclick.errors import BundleError
from nextclick.hashing import user_hash
from nextclick.manifest import MAX_MANIFEST_BYTES, Manifest, decode_manifest, encode_manifest

EXPERIMENT = "experiment"  # the key on `models`; a tombstone ends the experiment
CHAMPION_VARIANT, CANARY_VARIANT, SHADOW_VARIANT = "champion", "canary", "shadow"
# Users are counted in so many groups, by their hash: clicks of one user are alike, those of two groups are not. Enough
# for a variance that is known to a tenth, and few enough for a record of 4 kB.
N_BUCKETS = 64
N_COUNTS = 4  # of a bucket: judged clicks, hits, reciprocal ranks, their squares
_JUDGED, _HITS, _RECIPROCAL, _SQUARES = range(N_COUNTS)

Promotion = Literal["never", "better", "not_worse"]


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle on trial.

    Attributes:
        experiment_id: names the experiment, and is the salt of its split: each one has other users.
        kind: `canary` answers its users, `shadow` nobody.
        manifest: of the bundle on trial.
        champion: the bundle that was the champion when it began.
        share: of the users.
        started_ms: when it began.
        promote: when the bundle becomes the champion by itself: never, when it is significantly better, or also when
            `max_judged` clicks did not show that it is worse.
        max_judged: judged clicks of the bundle after which a decision is due.
    """

    experiment_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    kind: Literal["canary", "shadow"]
    manifest: Manifest
    champion: str
    share: Annotated[float, msgspec.Meta(gt=0, le=1)]
    started_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)]
    promote: Promotion = "never"
    max_judged: Annotated[int, msgspec.Meta(ge=1)] = 10_000

    @property
    def bundle_id(self) -> str:
        """The bundle on trial."""
        return self.manifest.bundle_id

    @property
    def bundle(self) -> int:
        """The same as a number, as users' states name it."""
        return int(self.manifest.bundle_id, 16)


def encode_experiment(experiment: Experiment) -> bytes:
    """Give the JSON of an experiment."""
    return msgspec.json.encode(experiment)


def decode_experiment(data: bytes) -> Experiment:
    """Read an experiment.

    Raises:
        BundleError: it is none, or its bundle's manifest is refused.
    """
    if len(data) > 2 * MAX_MANIFEST_BYTES:
        raise BundleError(f"expected an experiment, found {len(data)} bytes; begin it again with `nextclick models`")
    try:
        experiment = msgspec.json.decode(data, type=Experiment)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"expected an experiment, found something else: {error!s:.300}") from error
    decode_manifest(encode_manifest(experiment.manifest))
    return experiment


class Place(NamedTuple):
    """Where a user stands in an experiment.

    Attributes:
        is_chosen: whether the bundle on trial is for this user.
        bucket: the group that the user's clicks are counted in.
    """

    is_chosen: bool
    bucket: int


class Split:
    """Says which users an experiment is for: by a hash, the same on every worker and after every restart."""

    def __init__(self, experiment: Experiment) -> None:
        self._salt = experiment.experiment_id.encode()
        self._below = int(experiment.share * 2**64)

    def place_of(self, user: bytes) -> Place:
        """Give a user's place.

        Args:
            user: the key of the user's records.
        """
        number = user_hash(user, self._salt)
        return Place(number < self._below, number % N_BUCKETS)


Counts = list[list[float]]  # by bucket, `N_COUNTS` each


def no_counts() -> Counts:
    """Give counts of nothing."""
    return [[0.0] * N_COUNTS for _ in range(N_BUCKETS)]


def count(counts: Counts, bucket: int, place: int | None) -> None:
    """Judge a click.

    Args:
        counts: of the variant that made the list; changed.
        bucket: of the user.
        place: of the clicked item in the list that the user had seen, from 0; None: it was not there.
    """
    row = counts[bucket]
    row[_JUDGED] += 1
    if place is not None:
        reciprocal = 1.0 / (place + 1)
        row[_HITS] += 1
        row[_RECIPROCAL] += reciprocal
        row[_SQUARES] += reciprocal * reciprocal


_Row = Annotated[list[Annotated[float, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=N_COUNTS, max_length=N_COUNTS)]
_Rows = Annotated[list[_Row], msgspec.Meta(min_length=N_BUCKETS, max_length=N_BUCKETS)]


class Tally(msgspec.Struct, frozen=True):
    """What one worker has counted of an experiment since it began with it; a later one takes the place of an earlier.

    Attributes:
        experiment_id: of the experiment.
        worker: names the process.
        at_ms: when it was written.
        serves: whether the worker could load the bundle on trial; else all its users get the champion.
        champion: counts of clicks on the champion's lists.
        challenger: of clicks on lists of the bundle on trial; with a shadow both are of the same clicks.
        beside_champion, beside_challenger: of clicks of a canary's users, judged by lists that the champion would have
            made for them, and by those that they got.
    """

    experiment_id: str
    worker: str
    at_ms: int
    serves: bool
    champion: _Rows
    challenger: _Rows
    beside_champion: _Rows = msgspec.field(default_factory=no_counts)
    beside_challenger: _Rows = msgspec.field(default_factory=no_counts)


def tally_key(experiment_id: str, worker: str) -> bytes:
    """Give the key of a worker's tally on its topic."""
    return f"{experiment_id}/{worker}".encode()


def encode_tally(tally: Tally) -> bytes:
    """Give the JSON of a tally."""
    return msgspec.json.encode(tally)


def decode_tally(data: bytes) -> Tally:
    """Read a tally.

    Raises:
        BundleError: it is none.
    """
    try:
        return msgspec.json.decode(data, type=Tally)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"expected a tally of an experiment, found something else: {error!s:.300}") from error
