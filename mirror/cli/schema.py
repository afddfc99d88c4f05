"""`oidc-mirror schema`: the JSON Schema of the configuration, for editors and CI."""

import json

import click

from mirror.cli.options import common_options, examples


@click.command("schema", epilog=examples("oidc-mirror schema > mirror.schema.json"))
@common_options
def command() -> None:
    """Print the JSON Schema of the configuration on stdout."""
    from mirror.config.schema import json_schema  # noqa: PLC0415  pydantic only when it is needed

    click.echo(json.dumps(json_schema(), indent=2))
