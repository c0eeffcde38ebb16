"""Plots as values: written when a run ends, drawn then or later, always the same."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import result_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.exit_codes import INTERRUPTED
from trainer.lock import one_writer
from trainer.observers.images import batch_plot
from trainer.report.figures import IMAGE_WIDTH, save_figure
from trainer.report.plots import DRAWN_BY, Plot, kept_images, read_plot

RNG = np.random.default_rng(0)
IMAGES = kept_images(RNG.random((3, 8, 8, 1)))
PLOTS = {
    "batch": Plot("batch", before=IMAGES, after=IMAGES, names=["0", "$x_1$", "two\nlines"], targets=("", "70 % a", "")),
    "schedule": Plot("schedule", times=np.arange(3.0), lrs=np.array([0.1, 0.2, 0.1]), momenta=np.full(3, np.nan)),
    "confusion": Plot("confusion", confusion=np.arange(9).reshape(3, 3), classes=("a", "b", "Ünï")),
    "errors": Plot("errors", images=IMAGES, titles=["a", "b", "c"]),
    "grad_cam": Plot("grad_cam", images=IMAGES, predicted=IMAGES[..., 0], true=IMAGES[..., 0], titles=["a", "b", "c"]),
    "embedding": Plot(
        "embedding", points=RNG.random((5, 2)), values=np.array([0, 1, -1, 1, 0]), classes=("a", "b"), names=("x", "y")
    ),
    "labels": Plot("labels", labels=("a", "b"), precision=np.array([0.5, np.nan]), recall=np.array([1.0, 0.25])),
    "predicted": Plot(
        "predicted", names=["t"], truth=RNG.random((4, 1)), predicted=RNG.random((4, 1)), known=np.ones((4, 1), bool)
    ),
}
DIGITS = ("data=digits", "data.limit=300", "epochs=1", "batch_size=50")
LEFT = {"schedule", "confusion", "misclassified", "grad_cam", "embedding"}  # of the network of digits


def images_of(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (folder / "report").glob("*.png")}


def tags_of(folder: Path) -> dict[str, list[int]]:
    """The steps of the images in TensorBoard."""
    events = EventAccumulator(str(folder), {"images": 0})
    events.Reload()
    return {tag: sorted(image.step for image in events.Images(tag)) for tag in events.Tags()["images"]}


def test_every_kind_of_plot_is_tried_here():
    assert PLOTS.keys() == DRAWN_BY.keys()


@pytest.mark.parametrize("kind", PLOTS)
def test_a_plot_that_was_written_is_drawn_as_one_that_was_not(kind, tmp_path):
    PLOTS[kind].step = 7
    PLOTS[kind].write(tmp_path / "plot.npz")
    read = read_plot(tmp_path / "plot.npz")
    assert (read.kind, read.step) == (kind, 7)
    for name, plot in (("own", PLOTS[kind]), ("read", read)):
        save_figure(plot.draw(), tmp_path / f"{name}.png")
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "read.png").read_bytes()


def test_images_are_kept_in_the_size_in_which_they_are_drawn():
    large = RNG.random((2, 3 * IMAGE_WIDTH, 2 * IMAGE_WIDTH, 3))
    assert kept_images(large).shape == (2, round(1.5 * IMAGE_WIDTH), IMAGE_WIDTH, 3)
    assert (kept_images(large[:, :8, :8]) == (255 * large[:, :8, :8]).round()).all()
    flat = np.full((1, 300, 300, 1), 0.25)
    assert (kept_images(flat) == 64).all()
    plot = batch_plot(large, large, ["a", "b"], ["", ""])
    assert all(values.nbytes < large.size / 3 for values in plot.values.values() if isinstance(values, np.ndarray))


def test_a_compressed_file_could_expand_to_any_size_and_is_refused(tmp_path):
    PLOTS["schedule"].write(tmp_path / "stored.npz")
    with zipfile.ZipFile(tmp_path / "stored.npz") as stored, zipfile.ZipFile(tmp_path / "packed.npz", "w", 8) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(ValueError, match="is compressed"):
        read_plot(tmp_path / "packed.npz")


def test_more_images_than_fit_into_a_plot_are_refused_before_they_take_memory(tmp_path):
    many = np.zeros((5000, 1, 1, 1), np.uint8)
    Plot("batch", before=many, after=many, names=["0"] * 5000).write(tmp_path / "plot.npz")
    with pytest.raises(ValueError, match="10,000 images are too many for one plot"):
        read_plot(tmp_path / "plot.npz").draw()


def test_objects_in_a_file_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "plot.npz", texts=np.array('{"kind": "schedule"}'), times=np.array([print], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_plot(tmp_path / "plot.npz")


def test_plots_that_are_drawn_later_are_those_of_a_run_that_draws_them(train, tmp_path):
    for when in ("now", "later"):
        assert train(*DIGITS, f"job.plots={when}", f"output={when}")[0] == 0
    now, later = tmp_path / "now", tmp_path / "later"
    assert images_of(later).keys() == {"batch", "filters"}, "what is drawn without matplotlib"
    assert tags_of(later).keys() == {"batch", "filters"}
    assert f"train job=report run={Path('later')}" in (later / "report.md").read_text()
    assert "curves.png" not in (later / "report.md").read_text()
    page = (later / "report.html").read_text()
    assert "<svg" in page
    assert "Training curves" in page
    code, _, err = train("job=report", "run=later")
    assert code == 0, err
    drawn, expected = images_of(later), images_of(now)
    assert drawn.keys() == expected.keys() >= LEFT | {"curves", "steps", "distributions"}
    assert [name for name in drawn if drawn[name] != expected[name]] == []
    assert tags_of(later) == tags_of(now)
    assert tags_of(now).keys() >= LEFT
    assert "have not been drawn" not in (later / "report.md").read_text()
    assert result_of(later)["test"] == result_of(now)["test"]
    events = sorted(later.glob("events.*"))
    assert train("job=report", "run=later")[0] == 0
    assert sorted(later.glob("events.*")) == events, "TensorBoard has them already"


def test_a_run_that_draws_later_does_not_load_matplotlib(tmp_path):
    code = f"""
import sys
from trainer.cli import main
code = main([*{DIGITS}, "job.plots=later", "output=run"])
print("LOADED", code, "matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("LOADED 0 False\n"), done.stderr


def test_a_run_that_goes_on_does_not_show_the_plots_of_before(train, tmp_path):
    assert train(*DIGITS, "job.plots=later", "output=run")[0] == 0
    assert train("job=report", "run=run")[0] == 0
    assert train("resume=run", "epochs=2")[0] == 0
    assert images_of(tmp_path / "run").keys() & {*LEFT, "curves", "steps"} == set()
    before = cv2.imread(str(tmp_path / "run/report/batch.png"))
    assert before is not None, "the first batch is still the first batch"
    assert train("resume=run", "epochs=3", "job.plots=now")[0] == 0
    assert images_of(tmp_path / "run").keys() >= {*LEFT, "curves", "steps"}


def test_a_sweep_draws_the_plots_of_its_best_job_and_says_how_to_draw_the_others(train, tmp_path):
    command = ("-m", *DIGITS, "optimizer.lr=1e-6,0.05", "output=all")
    code, out, err = train(*command)
    assert code == 0, err
    poor, best = sorted((tmp_path / "all").glob("*/"))
    assert images_of(best).keys() >= {*LEFT, "curves"}
    assert images_of(poor).keys() == {"batch", "filters"}
    assert f"its plots: {Path('all') / best.name / 'report.html'}" in out
    assert "the plots of 1 of 2 jobs are not drawn; train job=report run=all draws all" in out
    code, out, _ = train("job=report", "run=all")
    assert code == 0
    assert out.count("written to") == 2
    assert images_of(poor).keys() == images_of(best).keys()
    code, out, _ = train(*command)
    assert code == 0
    assert "plots" not in out, "everything is drawn"


def test_the_only_job_of_a_sweep_is_drawn_and_all_jobs_are_where_the_command_says_so(train, tmp_path):
    code, out, err = train("-m", *DIGITS, "output=one")
    assert code == 0, err
    assert f"its plots: {next(Path('one').glob('*/'))}" in out
    assert "not drawn" not in out
    code, out, err = train("-m", *DIGITS, "seed=0,1", "job.plots=now", "output=two")
    assert code == 0, err
    assert "its plots" not in out
    assert "not drawn" not in out
    assert all(images_of(folder).keys() >= LEFT for folder in (tmp_path / "two").glob("*/"))


def test_the_same_sweep_again_draws_what_ctrl_c_has_interrupted(train, tmp_path, monkeypatch):
    command = ("-m", *DIGITS, "seed=0,1", "output=all")

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trainer.observers.plots.write_report", interrupted)  # all other plots have been drawn by then
        assert train(*command)[0] == INTERRUPTED
    code, out, err = train(*command)
    assert code == 0, err
    best = tmp_path / out.partition("its plots: ")[2].split()[0]
    assert images_of(best.parent).keys() >= {*LEFT, "curves", "steps", "distributions"}
    assert "have not been drawn" not in best.read_text()
    assert tags_of(best.parent).keys() >= LEFT


def test_what_only_the_report_draws_is_left_for_later_and_drawn_for_the_best_job_as_well(train, tmp_path):
    code, out, err = train("-m", *DIGITS, "seed=0,1", "observer=[report,histograms]", "output=all")
    assert code == 0, err
    assert "its plots: " in out
    assert [images_of(folder).keys() for folder in (tmp_path / "all").glob("*/")].count(set()) == 1


def test_plots_that_cannot_be_drawn_are_a_note_below_the_table_of_a_sweep(train, tmp_path):
    command = ("-m", *DIGITS, "seed=0,1", "output=all")
    code, out, _ = train(*command)
    best = (tmp_path / out.partition("its plots: ")[2].split()[0]).parent
    (best / "report/undrawn").write_text("")
    with one_writer(best):
        code, out, err = train(*command)
    assert code == 0
    assert "note: the plots of the best job are not drawn: " in err
    assert "is being written by process" in err
    outside = tmp_path / "outside.npz"
    (best / "report/confusion.npz").rename(outside)
    (best / "report/confusion.npz").symlink_to(outside)
    code, out, err = train(*command)
    assert code == 0
    assert "its report/confusion.npz is a link out of the run directory" in err


def test_a_sweep_whose_command_leaves_the_plots_for_later_draws_none(train, tmp_path):
    code, out, err = train("-m", *DIGITS, "seed=0,1", "job.plots=later", "output=all")
    assert code == 0, err
    assert "its plots" not in out
    assert "the plots of 2 of 2 jobs are not drawn" in out
    assert not list((tmp_path / "all").glob("*/report/confusion.png"))


def test_a_sweep_of_which_no_job_has_begun_has_no_plots(train, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all/sweep.json").write_text('{"command": [], "jobs": []}')
    code, _, err = train("job=report", "run=all")
    assert code == 2
    assert "none has begun" in err


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_a_damaged_plot_is_left_out_by_its_name(content, train, tmp_path):
    assert train(*DIGITS, "job.plots=later", "output=run")[0] == 0
    (tmp_path / "run/report/confusion.npz").write_bytes(content)
    code, _, err = train("job=report", "run=run")
    assert code == 0, err
    assert f"the plot '{Path('run/report/confusion.npz')}' is left out" in err
    assert images_of(tmp_path / "run").keys() >= LEFT - {"confusion"}
