"""The time budget of a run: where it ends, and how it continues. The time is replaced by the number of steps."""

from __future__ import annotations

import pytest
from conftest import history_of, load, result_of, same

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.time_budget import TimeBudget
from trainer.errors import ConfigError

SMALL = (
    "data=fake", "data.size=8", "data.count=100", "data.num_classes=3", "architecture.widths=[4,8]", "batch_size=16",
    "regularizer=[dropout]", "device=cpu", "precision=float32", "schedule=constant", "observer=[checkpoint,history_file]",
)  # fmt: skip


@pytest.fixture
def seconds(monkeypatch):
    """Lets each call of the clock take one second: it is read at the start and after each step."""
    now = [0.0]

    def tick() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr("trainer.engine.time_budget.time.monotonic", tick)


@pytest.fixture
def steps_allowed(monkeypatch):
    """Lets the time be over once ``exceeded`` has been read so many times in all; it is read once after each step."""

    def allow(count: int) -> None:
        reads = [0]

        def exceeded(self: TimeBudget) -> bool:
            reads[0] += 1
            return reads[0] >= count

        monkeypatch.setattr(TimeBudget, "exceeded", property(exceeded))

    return allow


def test_a_run_ends_after_the_step_at_which_the_time_is_over_and_equals_one_of_that_many_steps(train, steps_allowed):
    steps_allowed(9)  # the second read after the 5 steps of the first epoch is that of its end: 8 steps
    assert train(*SMALL, "epochs=4", "engine.budget=10min", "output=cut")[0] == 0
    result, rows = result_of("cut"), history_of("cut")
    assert (result["status"], result["stop_reason"]) == ("finished", "the budget of 10min00s is used up")
    assert [row["step"] for row in rows] == [5, 8]
    assert rows[-1]["epoch"] == pytest.approx(8 / 5)
    assert train(*SMALL, f"epochs={8 / 5}", "output=short")[0] == 0
    assert same(load("cut")["state"]["model"], load("short")["state"]["model"])
    assert [{**row, "seconds": 0, "images_per_second": 0} for row in rows] == [
        {**row, "seconds": 0, "images_per_second": 0} for row in history_of("short")
    ]


def test_a_larger_budget_continues_a_cut_run_and_the_same_one_has_nothing_to_resume(train, steps_allowed, monkeypatch):
    steps_allowed(9)
    monkeypatch.setattr(TimeBudget, "spent", property(lambda self: 601.0))
    assert train(*SMALL, "epochs=3", "engine.budget=10min", "output=cut")[0] == 0
    code, out, _ = train("resume=cut")
    assert (code, "nothing to resume: the run is complete, the budget of 10min00s is used up" in out) == (0, True)
    assert "engine.budget=20min00s continues it" in out
    steps_allowed(10**6)
    assert train("resume=cut", "engine.budget=20min")[0] == 0
    assert train(*SMALL, "epochs=3", "output=whole")[0] == 0
    assert same(load("cut")["state"]["model"], load("whole")["state"]["model"])
    assert [row["step"] for row in history_of("cut")] == [5, 8, 10, 15]


def test_the_time_of_earlier_sessions_counts():
    run = build(load_config([*SMALL, "epochs=4", "engine.budget=100s"]))
    fit(run)
    assert run.budget is not None
    state = run.state()
    state["spent"] = 100.0
    again = build(load_config([*SMALL, "epochs=8", "engine.budget=100s"]))
    again.load(state)
    assert again.stop_reason() == "the budget of 1min40s is used up"
    more = build(load_config([*SMALL, "epochs=8", "engine.budget=101s"]))
    more.load(state)
    assert more.stop_reason() is None


def test_a_run_that_will_not_reach_its_epochs_says_where_it_will_end(seconds, monkeypatch):
    run = build(load_config([*SMALL, "epochs=100", "engine.budget=30s"]))
    texts: list[str] = []
    monkeypatch.setattr(run, "alert", texts.append)
    fit(run)
    assert run.stop_reason() == "the budget of 30s is used up"
    assert len(texts) == 1
    assert texts[0].startswith("at this speed the budget of 30s ends at epoch ")
    assert "the schedule at epoch 100; epochs=" in texts[0]


@pytest.mark.parametrize("value", ["0s", "soon", "-3"])
def test_a_budget_that_is_no_duration_is_answered_with_what_is(value):
    with pytest.raises(ConfigError, match=r"engine\.budget.*must be") as error:
        load_config([*SMALL, f"engine.budget={value}"])
    assert "10min" in str(error.value) or "number > 0" in str(error.value)
