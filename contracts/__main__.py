"""`python -m contracts`: says whether what is published is what the code says; `--write` publishes it."""

from pathlib import Path

import click

from contracts import capacity_page, metrics_page
from contracts.published import FOLDER, complaints, documents, write

_TOP = Path(__file__).parents[1]


@click.command()
@click.option("--write", "writes", is_flag=True, help="Publish what has changed.")
def contracts(writes: bool) -> None:
    """Compare docs/contracts, and the pages that are made of the code, with the code."""
    made = documents()
    pages = {metrics_page.FILE: metrics_page.page(), capacity_page.FILE: capacity_page.page()}
    if writes:
        try:
            for file in write(made, FOLDER):
                click.echo(f"wrote {file}")
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        for path, text in pages.items():
            path.write_text(text)
    found = complaints(made, FOLDER)
    for path, text in pages.items():
        if not path.exists() or path.read_text() != text:
            found.append(f"{path.relative_to(_TOP)} is not as the code says; run python -m contracts --write")
    for text in found:
        click.echo(text)
    if found:
        raise SystemExit(1)
    click.echo(f"{len(made)} documents are published as they are made")


if __name__ == "__main__":
    contracts()
