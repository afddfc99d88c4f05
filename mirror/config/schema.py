"""The JSON Schema of the configuration file, for editors and for the reference."""

from mirror.config.shape import Root

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, object]:
    """A JSON Schema (2020-12) of the file: every key with its kind, default and description.

    What it refuses is refused by `load` as well; rules about several keys are only known to `load`.
    """
    schema = Root.model_json_schema()
    return {"$schema": DIALECT, **schema, "title": "Configuration of oidc-mirror"}
