"""`python -m contracts`: says whether the published contracts are those of the types; `--write` publishes them."""

import click

from contracts.published import FOLDER, complaints, documents, write


@click.command()
@click.option("--write", "writes", is_flag=True, help="Publish what has changed.")
def contracts(writes: bool) -> None:
    """Compare docs/contracts with the types in the code."""
    made = documents()
    if writes:
        try:
            for file in write(made, FOLDER):
                click.echo(f"wrote {file}")
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    found = complaints(made, FOLDER)
    for text in found:
        click.echo(text)
    if found:
        raise SystemExit(1)
    click.echo(f"{len(made)} documents are published as they are made")


if __name__ == "__main__":
    contracts()
