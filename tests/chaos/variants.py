"""Judges what updates say of a bundle on trial: who got it, and that it is the one they name."""

from collections.abc import Iterable

from nextclick.experiment import CANARY_VARIANT, CHAMPION_VARIANT, Experiment, Split
from nextclick.updates import RecommendationUpdate


def check_variants(updates: Iterable[RecommendationUpdate], experiment: Experiment) -> tuple[int, list[str]]:
    """Compare updates with the split, whichever worker made them.

    Args:
        updates: all of a run.
        experiment: the one that ran for a part of it.

    Returns:
        How many have lists of the bundle on trial; and what is not as it must be, a line each.
    """
    split, n_of_canary, problems = Split(experiment), 0, list[str]()
    for update in updates:
        if not update.variant:
            if update.bundle_id == experiment.bundle_id:
                problems.append(f"an update of {update.user_id} has a list of the bundle on trial and no variant")
            continue
        is_chosen = split.place_of(update.user_id.encode(errors="surrogatepass")).is_chosen
        n_of_canary += is_chosen
        if update.variant != (CANARY_VARIANT if is_chosen else CHAMPION_VARIANT):
            problems.append(
                f"an update of {update.user_id} names the variant {update.variant}, which is not the user's"
            )
        if (update.bundle_id == experiment.bundle_id) != is_chosen:
            problems.append(f"an update of {update.user_id} has a list of {update.bundle_id}, which is not the user's")
    return n_of_canary, problems[:10]
