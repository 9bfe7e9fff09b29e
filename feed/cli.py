"""The command `nextclick feed`."""

import click

from nextclick.settings import Settings
from tools.options import settings_options


@click.command()
@click.option("--verbose", is_flag=True, help="Also the libraries' own log lines.")
@settings_options
def feed(settings: Settings, verbose: bool) -> None:
    """Serve users' lists over HTTP, and take clicks.

    Follows the topic of updates, keeps the newest list of every user in `feed_dir`, and answers from there, also while
    Kafka is away. Run as many as you like, each with a folder of its own, behind any load balancer:

    \b
        nextclick feed --set feed_port=9470
        curl http://127.0.0.1:9470/v1/users/u-17/recommendations
        curl -N http://127.0.0.1:9470/v1/users/u-17/events
        curl -X POST 'http://127.0.0.1:9470/v1/clicks?wait=500ms' -H 'Content-Type: application/json' \\
             -d '{"user_id": "u-17", "item_id": "sku-4711"}'

    /openapi.json describes every route. Everyone who reaches the port may ask, unless feed_tokens_file names a file of
    tokens. Metrics, /healthz and /readyz are on the same port. SIGTERM ends it: streams first, then requests.
    """
    from feed.service import run_feed
    from tools.logs import set_up_logs

    set_up_logs("feed", verbose=verbose)
    run_feed(settings)
