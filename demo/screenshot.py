"""Takes the picture of the demo's page that the README shows: `python -m demo.screenshot docs/page.png`.

A demo must be running. Fonts are the machine's: with Inter (Debian's package `fonts-inter`) it looks as it was meant.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from playwright.sync_api import Browser, Page, expect, sync_playwright

from demo.simulator import Law
from nextclick.errors import PermanentError

_WIDTH, _HEIGHT = 1360, 1130
_SWAP_MS = 180_000.0  # until the first bundle is there
_LIST_MS = 10_000.0  # of a click
_N_INTERESTS = 3
_REST_MS = 1_500.0  # between clicks, and before the picture: the machine shall have time for what it always does


def chromium_path() -> str | None:
    """Where the Chromium of this machine is; None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Give the Chromium that is installed on this machine, without a window.

    Raises:
        PermanentError: there is none.
    """
    path = chromium_path()
    if path is None:
        raise PermanentError("chromium is not on the PATH; install it (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        try:
            yield browser
        finally:
            browser.close()


def use_page(page: Page) -> None:
    """Click as a visitor with several interests would, once there is a model."""
    expect(page.locator("#series .swap dd")).not_to_have_text("0", timeout=_SWAP_MS)
    expect(page.locator("#popular-items button").first).to_be_visible(timeout=_SWAP_MS)
    listed = page.locator("#popular-items li").evaluate_all("places => places.map((place) => place.dataset.item)")
    by_interest = {int(item_id.removeprefix("item-")) // Law().items_per_group: item_id for item_id in listed}
    for item_id in list(by_interest.values())[:_N_INTERESTS]:
        _click(page, f"#popular-items [data-item={item_id}] button")
        _click(page, "#for-you-items li:nth-child(3) button")


def _click(page: Page, selector: str) -> None:
    before = page.locator("#announcer").inner_text()
    page.locator(selector).click()
    expect(page.locator("#announcer")).not_to_have_text(before, timeout=_LIST_MS)
    page.wait_for_timeout(_REST_MS)


@click.command()
@click.argument("picture", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--address", default="http://127.0.0.1:9470/", show_default=True, help="Where the demo says the page is.")
@click.option("--dark", is_flag=True, help="In the dark theme.")
def main(picture: Path, address: str, dark: bool) -> None:
    """Take a PICTURE of the page of a running demo."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="dark" if dark else "light")
        page.goto(address)
        use_page(page)
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(_REST_MS)
        page.screenshot(path=picture)


if __name__ == "__main__":
    main()
