"""What is published: each reason to refuse a bundle, alone, and the line that says it."""

import pytest

from nextclick.ranking_metrics import Quality
from training.learning.judgement import Comparison, Difference, Judgement, Lists
from training.learning.lead import Lead, Leads
from training.service.metrics import REFUSALS
from training.service.publication import _CHECKS, judge

LISTS = Lists(2_000, 900, 1_000, popular_share=0.2, expected_hits=700.0, hits=650, step_ms=0.4)
SAME = Difference(0.0, -0.01, 0.01)
SOUND = Judgement(
    new=Quality(0.60, 0.30, 0.35, 5_000),
    champion=Quality(0.60, 0.30, 0.35, 5_000),
    popularity=Quality(0.10, 0.03, 0.05, 5_000),
    counts=Quality(0.55, 0.27, 0.32, 5_000),
    over_champion=Comparison(SAME, SAME),
    lists=LISTS,
    champion_lists=LISTS,
    leads=Leads(Lead(0.09, 0.005), Lead(0.09, 0.005), Lead(0.09, 0.005)),
)
FIRST = SOUND._replace(champion=None, over_champion=None, champion_lists=None)


@pytest.mark.parametrize("judgement", [SOUND, FIRST], ids=["beside a champion", "the first one"])
def test_what_is_as_good_as_the_champion_and_better_than_popularity_is_published(judgement: Judgement) -> None:
    """It has learnt newer clicks; the line has the figures."""
    decision = judge(judgement)

    assert decision.publish
    assert decision.reason.startswith("better than popularity")
    assert "recall@20 new 0.6000" in decision.reason


def test_the_line_says_how_sure_the_difference_to_the_champion_is() -> None:
    """In full, once: it is what a person reads."""
    assert judge(SOUND).reason == (
        "better than popularity, not worse than the champion; recall@20 new 0.6000, champion 0.6000 (difference "
        "-0.0100 to +0.0100), popularity 0.1000; mrr@20 new 0.3000, champion 0.3000 (difference -0.0100 to +0.0100)"
    )


def test_a_little_worse_by_what_may_be_chance_is_published() -> None:
    """Else half of all equal bundles would be refused."""
    within = Difference(-0.008, -0.02, 0.004)

    assert judge(SOUND._replace(over_champion=Comparison(within, within))).publish


WORSE = Difference(-0.02, -0.03, -0.01)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"over_champion": Comparison(WORSE, SAME)}, "worse than the champion;"),
        ({"over_champion": Comparison(SAME, WORSE)}, "worse than the champion;"),
        ({"popularity": Quality(0.60, 0.30, 0.35, 5_000)}, "not better than popularity;"),
        ({"new": Quality(float("nan"), 0.3, 0.3, 5_000)}, "not better than popularity;"),
        ({"lists": None}, "a weight is not a finite number, or is far too large;"),
        ({"lists": LISTS._replace(expected_hits=1_500.0)}, "its scores promise 1500 hits where there were 650;"),
        ({"lists": LISTS._replace(expected_hits=280.0)}, "its scores promise 280 hits where there were 650;"),
        ({"lists": LISTS._replace(expected_hits=0.0)}, "its scores promise 0 hits where there were 650;"),
        ({"lists": LISTS._replace(n_items=449)}, "its lists hold 449 different items, the champion's 900;"),
        (
            {"lists": LISTS._replace(popular_share=0.46)},
            "the 20 most popular items take 46% of its lists, 20% of the champion's, and 10% of the clicks;",
        ),
        ({"lists": LISTS._replace(step_ms=0.81)}, "a step takes 0.81 ms, the champion's 0.40 ms;"),
    ],
)
def test_each_reason_to_refuse_is_enough_and_is_said(change: dict[str, object], reason: str) -> None:
    """Nothing else is wrong with the bundle."""
    decision = judge(SOUND._replace(**change))

    assert not decision.publish
    assert decision.reason.startswith(reason)


def test_the_first_bundle_must_not_be_worse_than_its_own_counts() -> None:
    """Beside a champion this says nothing that the comparison does not; a little less is a young network's."""
    behind = Lead(-0.15, 0.02)
    decision = judge(FIRST._replace(leads=Leads(behind, behind, behind)))

    assert not decision.publish
    assert decision.reason.startswith("worse than its neighbour counts alone, by 14% of recall@20 + mrr@20;")
    assert judge(SOUND._replace(leads=Leads(behind, behind, behind))).publish
    assert judge(FIRST._replace(leads=Leads(*[Lead(-0.08, 0.02)] * 3))).publish


def test_scores_that_are_as_careful_as_the_champions_are_no_reason_to_refuse() -> None:
    """On some logs hits are twice what scores say, and are so of every bundle; no bundle may be off by five."""
    careful, more_careful = LISTS._replace(expected_hits=250.0), LISTS._replace(expected_hits=110.0)

    assert judge(SOUND._replace(lists=careful, champion_lists=careful)).publish
    assert judge(FIRST._replace(lists=careful)).publish
    assert not judge(SOUND._replace(lists=more_careful, champion_lists=more_careful)).publish
    assert not judge(FIRST._replace(lists=more_careful)).publish


def test_all_reasons_are_said_at_once() -> None:
    """A person should not find the second one a training later."""
    decision = judge(SOUND._replace(over_champion=Comparison(WORSE, WORSE), lists=LISTS._replace(n_items=20)))

    assert decision.reason.startswith("worse than the champion; its lists hold 20 different items, the champion's 900;")
    assert decision.refusals == ("worse_than_champion", "covers_little")


def test_every_refusal_has_a_name_that_is_there_before_the_first() -> None:
    """As a metric's label."""
    nobody = Quality(0.0, 0.0, 0.0, 0)

    assert ("nothing_to_judge", *_CHECKS) == REFUSALS
    assert judge(SOUND._replace(new=nobody)).refusals == ("nothing_to_judge",)
    assert judge(SOUND).refusals == ()


@pytest.mark.parametrize(
    "lists",
    [
        LISTS._replace(n_items=60, n_known=100),  # max_items was made smaller
        LISTS._replace(n_known=2_500, step_ms=1.9),  # the catalogue has grown
        LISTS._replace(n_lists=12, n_items=700, expected_hits=9.0, hits=2),  # too few to tell
    ],
)
def test_what_the_shop_changed_is_no_reason_to_refuse(lists: Lists) -> None:
    """Guards look for a network that is broken, not for other items or few clicks."""
    assert judge(SOUND._replace(lists=lists)).publish


def test_a_champion_that_makes_no_list_is_no_measure() -> None:
    """It knows nothing of today's users, or no item of now."""
    nothing = Lists(0, 0, 1_000, 0.0, 0.0, 0, 0.0)

    assert judge(SOUND._replace(champion_lists=nothing)).publish


def test_where_users_click_popular_items_lists_may_hold_them() -> None:
    """The champion of a young shop knows few items, and those are not the popular ones."""
    popularity = Quality(0.35, 0.1, 0.1, 5_000)
    lists, champion = LISTS._replace(popular_share=0.4), LISTS._replace(popular_share=0.0)

    assert judge(SOUND._replace(popularity=popularity, lists=lists, champion_lists=champion)).publish


def test_a_decline_is_said_and_published() -> None:
    """It is as good as the champion on the same clicks, and newer."""
    decision = judge(SOUND._replace(leads=Leads(Lead(0.05, 0.01), Lead(0.06, 0.005), Lead(0.09, 0.005))))

    assert decision.publish
    assert "the next training begins from nothing" in decision.reason


def test_nothing_is_published_that_could_not_be_judged() -> None:
    """Without predictions all figures are 0."""
    nothing = Quality(0.0, 0.0, 0.0, 0)

    assert not judge(Judgement(nothing, None, nothing)).publish
