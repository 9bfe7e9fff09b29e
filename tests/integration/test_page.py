"""The demo's page in a real browser, on a running demo: what a visitor sees, and what it does when the feed is away."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from demo.page_feed import PROGRAM
from demo.screenshot import chromium, chromium_path

COMMAND = (sys.executable, "-c", "from cli.main import main; main()", "demo")
PAGE_S = 120.0  # of a busy machine, until the page is there
SWAP_MS = 200_000.0  # until the first bundle is served
ANSWER_MS = 30_000.0  # until something changes on the page

pytestmark = [
    pytest.mark.release,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("page"),  # one demo for all of them
    pytest.mark.skipif(chromium_path() is None, reason="chromium is not installed"),
]


class RunningDemo(NamedTuple):
    """A demo whose page is there."""

    url: str
    folder: Path

    def feed_pid(self) -> int:
        """The process that serves the page."""
        return next(
            process.pid
            for process in psutil.process_iter(["cmdline", "environ"])
            if (process.info["cmdline"] or [])[-1:] == [PROGRAM]
            and str(self.folder) in (process.info["environ"] or {}).get("TMPDIR", "")
        )


@pytest.fixture(scope="module")
def running(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """A demo that trains early; one for all tests of this file."""
    folder = tmp_path_factory.mktemp("page")
    log = folder / "demo.log"
    options = ["--broker", broker, "--set", "feed_port=0", "--set", "min_clicks=2500", "--set", "train_every_s=20"]
    environment = dict(os.environ) | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        demo = subprocess.Popen([*COMMAND, *options], env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        end_s = time.monotonic() + PAGE_S
        while not (said := re.search(r"demo: the page is at (http://127\.0\.0\.1:\d+/)", log.read_text())):
            assert demo.poll() is None
            assert time.monotonic() < end_s
            time.sleep(0.1)
        yield RunningDemo(said[1], folder)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, log.read_text()
    finally:
        demo.kill()
        demo.wait()
        print(log.read_text())


@pytest.fixture(scope="module")
def browser(running: RunningDemo) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, running: RunningDemo) -> Iterator[Page]:
    """The page in a tab of its own, as another visitor; nothing may have gone wrong in it at the end."""
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(running.url)
    expect(page.locator("#for-you-items button").first).to_be_visible(timeout=ANSWER_MS)
    yield page
    context.close()

    assert errors == []


def test_a_swap_is_seen_and_then_lists_say_what_their_items_are_there_for(page: Page) -> None:
    """Before the first bundle everyone gets what is popular; it comes while the page is open."""
    before = page.locator("#for-you-sub").inner_text()
    expect(page.locator("#series .swap dd")).not_to_have_text("0", timeout=SWAP_MS)
    expect(page.locator("#chart svg .swap")).not_to_have_count(0)
    click_until_the_model_knows(page)

    assert before.startswith("What is popular")
    reasons = page.locator("#for-you-items .card-why").all_inner_texts()
    assert any(reason in ("Fits what you did", "You clicked it before") or " after " in reason for reason in reasons)
    assert page.locator("#for-you-items .shares i").count() >= len([reason for reason in reasons if reason]) > 0
    expect(page.locator("#why-key")).to_be_visible()
    expect(page.locator("#near-title")).to_contain_text("Often clicked near")


def test_a_click_brings_a_new_list_and_its_way_is_shown(page: Page) -> None:
    """With the time of each part, in order, and read out once."""
    name = click(page, 0)
    expect(page.locator("#announcer")).to_contain_text(f"New list after {name}, in ", timeout=ANSWER_MS)
    stops = page.locator("#journey .at").all_inner_texts()
    times = [float(stop.removesuffix(" ms").replace(",", "")) for stop in stops]

    assert len(times) == 5
    assert times == sorted(times)
    assert times[0] == 0 < times[-1]
    assert page.locator("#journey li b").all_inner_texts() == [
        "Your browser", "Topic clicks", "Worker", "Feed", "Your screen",
    ]  # fmt: skip
    expect(page.locator("#journey li").nth(1)).to_contain_text(
        re.compile(r"partition \d+, offset \d"), timeout=ANSWER_MS
    )
    expect(page.locator("#speed")).to_be_visible()
    expect(page.locator("#trail-items li")).to_have_count(1)


def test_the_page_shows_what_goes_on_in_the_demo(page: Page) -> None:
    """Figures come once a second: speeds, latency, lag, model, and a user with clicks and a list."""
    expect(page.locator("#figures dd").first).to_contain_text(re.compile(r"[1-9]"), timeout=ANSWER_MS)
    expect(page.locator("#series .rate dd")).to_contain_text("%", timeout=ANSWER_MS)
    expect(page.locator("#watched .mini").first).to_be_visible(timeout=ANSWER_MS)

    titles = page.locator("#figures dt").all_inner_texts()
    assert titles == ["Clicks", "New lists", "Click to list", "Worker's lag", "Model", "Processors"]
    expect(page.locator("#watched")).to_contain_text(re.compile(r"user-\d+ clicked these"))


def test_two_tabs_are_two_users(page: Page, running: RunningDemo) -> None:
    """A click in one changes nothing in the other, also after a reload."""
    other = page.context.new_page()
    other.goto(running.url)
    expect(other.locator("#for-you-items button").first).to_be_visible(timeout=ANSWER_MS)
    click(page, 1)
    expect(page.locator("#announcer")).to_contain_text("New list after", timeout=ANSWER_MS)
    users = [tab.locator("#visitor").inner_text() for tab in (page, other)]
    other.reload()
    expect(other.locator("#for-you-items button").first).to_be_visible(timeout=ANSWER_MS)

    assert users[0] != users[1]
    assert other.locator("#visitor").inner_text() == users[1]
    assert sequence_of(page, users[0]) == 1
    assert sequence_of(other, users[1]) == 0
    expect(other.locator("#journey li")).to_have_count(0)


def test_the_connection_drops_and_comes_back_and_no_click_is_lost(page: Page, running: RunningDemo) -> None:
    """The feed is killed. The page says so, keeps the clicks, and sends each of them once when it is there again."""
    user = page.locator("#visitor").inner_text()
    click(page, 0)
    expect(page.locator("#announcer")).to_contain_text("New list after", timeout=ANSWER_MS)
    page.route("**/v1/**", lambda route: route.abort())  # so that it stays away until it was seen
    os.kill(running.feed_pid(), signal.SIGKILL)
    note = page.locator("#note")
    expect(note).to_contain_text("The feed does not answer", timeout=ANSWER_MS)
    click(page, 1)
    click(page, 2)
    expect(note).to_contain_text("2 clicks are kept", timeout=ANSWER_MS)
    wait_until(lambda: answers(running.url), "another feed")
    page.reload()
    expect(page.locator("#visitor")).to_have_text(user)
    page.unroute("**/v1/**")
    wait_until(lambda: sequence_of(page, user) == 3, "all three clicks in the list")

    expect(page.locator("#for-you-sub")).to_contain_text(re.compile("popular|your 3 clicks"), timeout=ANSWER_MS)
    expect(note).not_to_contain_text("does not answer", timeout=ANSWER_MS)
    assert sequence_of(page, user) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(page: Page, scheme: str, width: int) -> None:
    """With every part of the page filled, in both themes, narrow and wide; and nothing stands out at the side."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="light" if scheme == "light" else "dark", reduced_motion="reduce")
    click(page, 0)
    expect(page.locator("#announcer")).to_contain_text("New list after", timeout=ANSWER_MS)
    expect(page.locator("#watched .mini").first).to_be_visible(timeout=ANSWER_MS)
    found = Axe().run(page)

    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_keyboard_is_enough(page: Page) -> None:
    """The way past the head, a click by Enter, focus that stays in the list, and the theme by the space bar."""
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#for-you-items button").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).to_contain_text("New list after", timeout=ANSWER_MS)
    expect(page.locator("#for-you-items button:focus")).to_have_count(1)
    theme = page.locator("#theme")
    theme.focus()
    page.keyboard.press("Space")
    expect(theme).to_have_attribute("aria-pressed", "true")
    page.reload()

    expect(theme).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"


def click(page: Page, place: int) -> str:
    """Click an item of the list for the visitor; gives its name."""
    button = page.locator("#for-you-items button").nth(place)
    name = button.locator(".card-name").inner_text()
    button.click()
    return name


def click_until_the_model_knows(page: Page) -> None:
    """Click what was there when the bundle was made: an item that it does not know tells it nothing."""
    for place in range(10):
        before = page.locator("#announcer").inner_text()
        click(page, place % 3)
        expect(page.locator("#announcer")).not_to_have_text(before, timeout=ANSWER_MS)
        with suppress(AssertionError):
            expect(page.locator("#for-you-sub")).to_contain_text("by model", timeout=2_000)
            return
    pytest.fail("no list of the model after 10 clicks")


def sequence_of(page: Page, user_id: str) -> int:
    """How many clicks of a user are in the feed's list; 0 while it does not answer."""
    answer = page.evaluate(
        "user => fetch(`/v1/users/${user}/recommendations`).then((r) => r.json()).catch(() => ({ sequence: -1 }))",
        user_id,
    )
    return int(answer["sequence"])


def answers(url: str) -> bool:
    """Whether somebody serves the page."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that is not on the page."""
    end_s = time.monotonic() + ANSWER_MS / 1000
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.1)
