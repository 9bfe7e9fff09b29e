"""Who gets a bundle on trial: the same users everywhere and always, as many as was said, others in each experiment."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from nextclick.experiment import N_BUCKETS, Split
from tests.experiments import experiment_of

users, shares = st.binary(min_size=1, max_size=64), st.floats(0.001, 1)


@given(user=users, small=shares, large=shares, name=st.text(min_size=1, max_size=16))
def test_who_is_chosen_for_a_small_share_is_chosen_for_a_larger_one(
    user: bytes, small: float, large: float, name: str
) -> None:
    """Of the same experiment: its share can be raised without taking the bundle from anybody."""
    small, large = sorted((small, large))
    first, second = (Split(experiment_of(share=share, experiment_id=name)).place_of(user) for share in (small, large))

    assert second.is_chosen or not first.is_chosen
    assert first.bucket == second.bucket
    assert 0 <= first.bucket < N_BUCKETS


@given(user=users)
def test_a_share_of_one_is_everybody(user: bytes) -> None:
    assert Split(experiment_of(share=1.0)).place_of(user).is_chosen


def test_a_share_is_a_share_in_each_bucket_and_another_experiment_has_other_users() -> None:
    """Who is chosen says nothing of the bucket, nor of who was chosen before."""
    numbers = [b"user-%d" % number for number in range(40_000)]
    first, second = (Split(experiment_of(share=0.1, experiment_id=name)) for name in ("a", "b"))
    chosen = [first.place_of(user) for user in numbers]
    also = sum(first.place_of(user).is_chosen and second.place_of(user).is_chosen for user in numbers)
    by_bucket = [
        sum(place.is_chosen for place in chosen if place.bucket == bucket)
        / sum(place.bucket == bucket for place in chosen)
        for bucket in range(N_BUCKETS)
    ]

    assert abs(sum(place.is_chosen for place in chosen) / len(chosen) - 0.1) < 0.006
    assert 0.04 < min(by_bucket) <= max(by_bucket) < 0.17
    assert abs(also / len(numbers) - 0.01) < 0.003


def test_another_process_chooses_the_same_users() -> None:
    """Python's own hash would not."""
    program = (
        "from nextclick.experiment import Split\nfrom tests.experiments import experiment_of\n"
        "print([Split(experiment_of(share=0.3)).place_of(b'%d' % n).is_chosen for n in range(200)])"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    split = Split(experiment_of(share=0.3))

    assert other.strip() == str([split.place_of(b"%d" % number).is_chosen for number in range(200)])
