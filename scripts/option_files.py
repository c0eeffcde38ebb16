"""Rewrite the parameters and comments of conf/<group>/*.yaml and conf/train.yaml from their declarations.

Each option file lists every parameter of its class as `key: value  # meaning; allowed values`: those that the class
itself declares first, then those it inherits. Values are kept exactly as typed and missing parameters are added with
their defaults. The headline stays. A parameter declared without a description keeps the comment it has.

python scripts/option_files.py [--check] [FILE ...]     --check: list the files that are not up to date, and exit with 1
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from trainer.config.options import CONF
from trainer.construct import locate
from trainer.parameters import Parameter, parameters
from trainer.settings import Settings

LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: +(?P<value>(?!#)\S.*?))?(?: +# (?P<comment>.*))?$")


@dataclasses.dataclass
class Entry:
    """The value of a key and its comment, as typed."""

    value: str
    comment: str


def up_to_date(file: Path) -> str:
    """Return the text that the file should have.

    Raises:
        ValueError: The file sets a key that its class does not have, or a line that is not `key: value`.
    """
    text = file.read_text()
    tree = yaml.safe_load(text) or {}
    if file == CONF / "train.yaml":
        return _with_comments(text, {(name,): p for name, p in _by_name(Settings).items()})
    if "defaults" in tree:
        return _with_comments(text, _preset_parameters(file, tree))
    if "_target_" in tree:
        return _option_file(text, _option_class(tree, file.parent.name))
    nodes = {name: node for name, node in tree.items() if isinstance(node, dict) and "_target_" in node}
    if len(nodes) != 1:
        return text
    (node,) = nodes.values()
    return _option_file(text, _option_class(node, file.parent.name), indent="  ")


def _option_class(node: dict[str, Any], group: str) -> type | None:
    """The class of a node, or None for a third-party component, which declares no parameters."""
    target = locate(node["_target_"], group)
    return target if isinstance(target, type) and dataclasses.is_dataclass(target) else None


def _by_name(cls: type) -> dict[str, Parameter]:
    """The parameters of a class: first those declared (or declared again) in it, then those of its base classes."""
    declared = {p.name: p for p in parameters(cls)}
    order = [name for base in cls.__mro__ for name in inspect.get_annotations(base) if name in declared]
    return {name: declared[name] for name in order}


def _option_file(text: str, cls: type | None, indent: str = "") -> str:
    """The text of an option file with one line for each parameter of its class."""
    if cls is None:
        return text
    head, entries = [], {}
    for line in text.splitlines():
        match = LINE.match(line)
        if line.startswith("#") or (match and match["indent"] != indent) or (match and match["key"] == "_target_"):
            head.append(line)
        elif match:
            entries[match["key"]] = Entry(match["value"] or "null", match["comment"] or "")
        elif line.strip():
            raise ValueError(f"{line!r} is not a line of the form 'key: value  # comment'")
    declared = _by_name(cls)
    if unknown := [key for key in entries if key not in declared]:
        raise ValueError(f"{cls.__name__} has no parameter {', '.join(unknown)}; it has {', '.join(declared)}")
    lines = [_line(indent, p, entries.get(name, Entry(_default(p), ""))) for name, p in declared.items()]
    return "\n".join([*head, *lines]) + "\n"


def _line(indent: str, parameter: Parameter, entry: Entry) -> str:
    comment = parameter.comment if parameter.meaning else entry.comment or parameter.comment
    return f"{indent}{parameter.name}: {entry.value}" + (f"  # {comment}" if comment else "")


def _default(parameter: Parameter) -> str:
    """The default of a parameter as YAML."""
    if parameter.required:
        return "???"
    value = parameter.default
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def _preset_parameters(file: Path, tree: dict[str, Any]) -> dict[tuple[str, ...], Parameter]:
    """The parameters that a preset sets of the options it is composed of, by their path in the preset."""
    result = {}
    for name, node in tree.items():
        part = file.with_name(f"{name}.yaml")
        if isinstance(node, dict) and part.exists():
            cls = _option_class(yaml.safe_load(part.read_text())[name], part.parent.name)
            known = _by_name(cls) if cls else {}
            if unknown := [key for key in node if key not in known]:
                raise ValueError(f"{name} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
            result |= {(name, key): known[key] for key in node}
    return result


def _with_comments(text: str, documented: dict[tuple[str, ...], Parameter]) -> str:
    """The text with the comments of the given parameters replaced, everything else kept."""
    lines, section = [], ""
    for line in text.splitlines():
        match = LINE.match(line)
        if match and not match["indent"] and match["value"] is None:
            section = match["key"]
        path = () if match is None else (section, match["key"]) if match["indent"] else (match["key"],)
        if match and path in documented and match["value"]:
            line = _line(match["indent"], documented[path], Entry(match["value"], match["comment"] or ""))
        lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="all files of conf/ if omitted")
    arguments = parser.parse_args()
    files = [f.resolve() for f in arguments.files] or [CONF / "train.yaml", *sorted(CONF.glob("*/*.yaml"))]
    stale, failed = [], False
    for file in files:
        if file.parent.name == "experiment":
            continue
        try:
            text = up_to_date(file)
        except (ValueError, ImportError) as error:
            print(f"{file.relative_to(CONF)}: {error}", file=sys.stderr)
            failed = True
            continue
        if text != file.read_text():
            stale.append(str(file.relative_to(CONF)))
            if not arguments.check:
                file.write_text(text)
    if arguments.check and stale:
        print(f"not up to date: {', '.join(stale)}; run python scripts/option_files.py", file=sys.stderr)
    return int(failed or (arguments.check and bool(stale)))


if __name__ == "__main__":
    sys.exit(main())
