"""``job=report``: the report of a run folder, written anew from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainer.config.schema import Config


@dataclass(frozen=True)
class Report:
    """Write ``report.md``, ``report.html`` and their pictures into ``run``'s folder, also of a run that was killed."""

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        from trainer.report import write_report

        run = run_folder_of("run", config.run)
        path = write_report(run)
        print(f"written to {path} and {path.with_suffix('.html')}")
        return 0


def run_folder_of(key: str, value: str | None) -> Path:
    """The run folder a setting names; ConfigError where it is none."""
    if value is None:
        raise ConfigError(Problem(key, None, f"must be given: {key}=<run folder>"))
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise ConfigError(Problem(key, value, "there is no such folder"))
    if not (folder / "config.yaml").is_file():
        inside = sorted(p.parent.name for p in folder.glob("*/config.yaml"))
        hint = (
            f"it holds the runs {', '.join(inside)}" if inside else "a run folder holds config.yaml and history.jsonl"
        )
        raise ConfigError(Problem(key, value, "is no run folder", hint))
    return folder
