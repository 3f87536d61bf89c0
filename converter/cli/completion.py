"""``dcm2fhir completion``: the script that a shell sources."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from converter.cli.common import Command

__all__ = ["completion"]


@click.command(
    cls=Command,
    examples="""
    dcm2fhir completion bash > ~/.local/share/bash-completion/completions/dcm2fhir
    dcm2fhir completion zsh  > ~/.zfunc/_dcm2fhir
    dcm2fhir completion fish > ~/.config/fish/completions/dcm2fhir.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print shell completion."""
    from converter.cli.main import cli

    found = get_completion_class(shell)
    assert found is not None, "click knows the shells of the choice"
    click.echo(found(cli, {}, "dcm2fhir", "_DCM2FHIR_COMPLETE").source())
