"""The page of what a load takes, docs/capacity.md: a template, and in it the costs and what the command prints."""

import re
from collections.abc import Mapping
from pathlib import Path

from cli.capacity_command import lines
from nextclick.capacity import MEASURED, USUAL, Load, need_of

FILE = Path(__file__).parents[1] / "docs" / "capacity.md"
_TEMPLATE = Path(__file__).with_name("capacity.template.md")
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_MILLION = Load(1_000_000, 10_000.0, 10_000)
_HUNDRED_MILLION = Load(100_000_000, 1_000_000.0, 1_000_000)


def page() -> str:
    """Give the page.

    Raises:
        KeyError: the template has a place that there is nothing for.
    """
    places = {"costs": _costs(), "million": _printed(_MILLION), "hundred_million": _printed(_HUNDRED_MILLION)}
    places |= _in_the_text()
    return _PLACE.sub(lambda place: places[place[1]], _TEMPLATE.read_text())


def _printed(load: Load) -> str:
    options = f"--users {load.users:.0e} --clicks-per-s {load.clicks_per_s:.0e} --items {load.items:.0e}"
    command = f"$ nextclick capacity {options.replace('e+0', 'e')}"
    return "\n".join(["```", command, *lines(load, need_of(load)), "```"])


def _costs() -> str:
    costs = MEASURED
    rows = (
        ("CPU of a click, but for scoring", f"{costs.worker_us_per_click:,.0f} us"),
        ("CPU to score one item for one click", f"{costs.worker_us_per_click_and_item * 1000:,.2f} ns"),
        ("CPU to read a click and write it to the click log", f"{costs.log_us_per_click:,.0f} us"),
        ("CPU to learn a click anew, all passes together", f"{costs.train_us_per_click:,.0f} us"),
        ("a click's record, JSON", f"{costs.click_bytes:,.0f} bytes"),
        ("an update's record, JSON, 20 items", f"{costs.update_bytes:,.0f} bytes"),
        ("a state's record in the changelog", f"{costs.change_bytes:,.0f} bytes"),
        ("a user's state in a worker's store, which compresses it", f"{costs.state_bytes:,.0f} bytes"),
        ("a click in the click log", f"{costs.log_bytes_per_click:,.0f} bytes"),
        ("memory of a worker, without the items", f"{costs.worker_bytes / 1e6:,.0f} MB"),
        ("an item in a worker's memory, beside the served form", f"{costs.own_item_bytes:,.0f} bytes"),
        ("an item in the served form, without neighbours", f"{costs.form_item_bytes:,.0f} bytes"),
        ("an item in a bundle, which has room for 100 neighbours", f"{costs.bundle_item_bytes:,.0f} bytes"),
    )
    return "\n".join(["| what | cost |", "|---|---|", *(f"| {what} | {cost} |" for what, cost in rows)])


def _in_the_text() -> Mapping[str, str]:
    """Give the numbers between the words, which follow from the same costs."""
    million, hundred_million = need_of(_MILLION), need_of(_HUNDRED_MILLION)
    a_hundred_thousand = need_of(_MILLION._replace(clicks_per_s=100_000.0)).trainer
    clicks_of_an_hour = _MILLION.clicks_per_s * 3600
    stored_gb = _HUNDRED_MILLION.users * MEASURED.state_bytes / 1e9
    return {
        "state_bytes": f"{MEASURED.state_bytes:,.0f}",
        "states_gb": f"{stored_gb:,.0f}",
        "click_us": f"{MEASURED.worker_us_per_click:,.0f}",
        "hour_clicks": f"{clicks_of_an_hour / 1e6:,.0f}",
        "hour_anew_h": f"{clicks_of_an_hour * MEASURED.train_us_per_click / 1e6 / 3600:,.1f}",
        "round_costs": f"{USUAL.round_costs:,.0f}",
        "gpu_cores": f"{USUAL.gpu_cores:,.0f}",
        "learn_cores": f"{million.trainer.learn_cores:,.0f}",
        "learn_cores_100k": f"{a_hundred_thousand.learn_cores:,.0f}",
        "learn_gpus_100k": f"{a_hundred_thousand.learn_gpus:,.1f}",
        "learn_gpus_1m": f"{hundred_million.trainer.learn_gpus:,.0f}",
        "log_cores_100k": f"{a_hundred_thousand.log_cores:,.1f}",
        "brokers_tb": f"{hundred_million.brokers.disk_tb:,.0f}",
        "swap_gb": f"{hundred_million.each.swap_memory_mb / 1000:,.1f}",
    }
