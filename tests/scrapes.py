"""What a process shows at /metrics."""

import re
import urllib.request

_APP = re.compile(r'app="[^"]*",?')


def scrape(port: int) -> str:
    """What a process on this machine shows, as `without_app` gives it."""
    return without_app(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode())


def without_app(text: str) -> str:
    """A scrape without the label that every series has."""
    return _APP.sub("", text).replace(",}", "}").replace("{}", "")


def value_of(text: str, name: str) -> float | None:
    """The value of a series by its name, with its labels in the order of the alphabet; None if it is not there."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None
