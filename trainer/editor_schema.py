"""A JSON schema of option files, experiments and saved configs, with which an editor completes and checks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.construct import locate
from trainer.formats import Json, JsonObject
from trainer.help import headline
from trainer.parameters import Parameter, parameters
from trainer.settings import Settings
from trainer.tree import is_table, table

REFERENCE = "#/definitions/"
# What is filled in later: ${seed} is another key's value, ??? is required.
LATER: JsonObject = {"type": "string", "pattern": r"\$\{.+\}|^\?\?\?$"}


def editor_schema(files: OptionFiles) -> JsonObject:
    """Return a JSON schema (draft 7) for the YAML files of an editor: those of ``--config-dir`` and ``config.yaml`` of a run.

    A table with a ``_target_`` of ours has its parameters, and no others; own components may have any.
    """
    definitions: JsonObject = {}
    targets = dict(sorted(_targets(files)))
    for path, group in targets.items():
        declared = locate(path, group)
        if isinstance(declared, type) and dataclasses.is_dataclass(declared):
            definitions[path] = _table(parameters(declared), definitions)
    dispatch: list[Json] = [_if_target(path, {"$ref": f"{REFERENCE}{path}"}) for path in definitions if path in targets]
    names: JsonObject = {"_target_": {"anyOf": [{"enum": list(targets)}, {"type": "string"}]}}
    definitions["component"] = {"properties": names, "allOf": dispatch}
    component: JsonObject = {"$ref": f"{REFERENCE}component"}
    several: JsonObject = {"type": "object", "additionalProperties": component}
    groups = dict.fromkeys(SINGLE, component) | dict.fromkeys(LISTS, several)
    declared = table(_table(parameters(Settings), definitions)["properties"])
    # An option of a list group may be called like a setting, such as the observer checkpoint.
    settings = {k: {"if": {"type": "object"}, "then": component, "else": v} for k, v in declared.items()}
    config: JsonObject = {
        "properties": {"defaults": {"type": "array", "items": _choices(files)}, **settings, **groups},
        "additionalProperties": component,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "trainer: option file, experiment, or config.yaml of a run",
        "type": ["object", "null"],
        "if": {"required": ["_target_"]},
        "then": component,
        "else": config,
        "definitions": definitions,
    }


def _targets(files: OptionFiles) -> Iterator[tuple[str, str]]:
    """The classes of the option files, each with its group."""
    for group in (*SINGLE, *LISTS):
        for file in files.groups.get(group, {}).values():
            tree = files.load(file)
            for node in (tree, *tree.values()):
                if (
                    is_table(node)
                    and isinstance(path := table(node).get("_target_"), str)
                    and path.startswith("trainer.")
                ):
                    yield path, group


def _if_target(path: str, then: JsonObject) -> JsonObject:
    condition: JsonObject = {"type": "object", "properties": {"_target_": {"const": path}}, "required": ["_target_"]}
    return {"if": condition, "then": then}


def _table(declared: Sequence[Parameter], definitions: JsonObject) -> JsonObject:
    """The schema of a table with these keys."""
    properties: JsonObject = {"_target_": {"type": "string"}}
    properties |= {parameter.name: _value(parameter, definitions) for parameter in declared}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _value(parameter: Parameter, definitions: JsonObject) -> JsonObject:
    """The schema of a parameter; of one whose type JSON has no word for, its meaning alone."""
    try:
        adapter = TypeAdapter[object](parameter.annotation)  # pyright: ignore[reportArgumentType]
        schema = adapter.json_schema(ref_template=REFERENCE + "{model}")
    except (PydanticUserError, PydanticInvalidForJsonSchema):
        return {"description": parameter.comment}
    schema = table(_draft_7(schema))
    definitions.update(table(schema.pop("definitions", {})))
    return {"description": parameter.comment, "anyOf": [schema, LATER]}


def _draft_7(schema: Json) -> Json:
    """A schema of pydantic, which writes draft 2020-12, in the words of draft 7, which every editor reads."""
    if isinstance(schema, list):
        return [_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    words = {"$defs": "definitions", "prefixItems": "items"}
    return {words.get(key, key): _draft_7(value) for key, value in schema.items() if key not in ("title", "default")}


def _choices(files: OptionFiles) -> JsonObject:
    """The entries of the list ``defaults``: which option each group starts with."""
    properties: JsonObject = {}
    for group, options in files.groups.items():
        described: list[Json] = [{"const": name, "description": headline(file)} for name, file in options.items()]
        one: JsonObject = {"anyOf": [*described, {"type": ["string", "null"]}]}
        chosen: JsonObject = {"anyOf": [one, {"type": "array", "items": one}]}
        properties |= {group: chosen, f"override /{group}": chosen}
    return {"anyOf": [{"type": "string"}, {"type": "object", "properties": properties}]}
