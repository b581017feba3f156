"""What a run leaves behind, what it does after a divergence, and how it keeps to a time."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from small import Rectangles, SmallConfig

from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.training import budget, clock, recovery, results, scoring
from mrcnn.training.clock import Clock
from mrcnn.training.divergence import TrainingDiverged
from mrcnn.training.options import Options
from mrcnn.training.schedule import Replannable
from mrcnn.weights import hdf5


def make_model(folder: Path, **settings) -> MaskRCNN:
    return MaskRCNN(SmallConfig.from_dict({"TRAIN_BN": None, **settings}), folder)


def scored(monkeypatch, *values: float) -> list[int]:
    """Let the scores of epochs be these mask APs; return the list that counts them."""
    calls: list[int] = []

    def score() -> dict[str, dict[str, float | None]]:
        calls.append(len(calls))
        value = values[len(calls) - 1]
        return {"segm": {"AP": value, "AP50": value, "AP75": None, "AR": 1.0}, "bbox": {"AP": 0.5}}

    monkeypatch.setattr(MaskRCNN, "_scorer", lambda *_: scoring.Scorer(score))
    monkeypatch.setattr(scoring, "SHARE", 1e9)
    return calls


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("eagerly")
def test_a_run_leaves_settings_results_and_the_best_weights(tmp_path, monkeypatch):
    scored(monkeypatch, 0.2, 0.4, 0.3)
    model = make_model(tmp_path)
    history = model.train(Rectangles(), Rectangles(2), Options(0.001, epochs=3, keep=1))
    folder = model.run.folder
    names = {path.name for path in folder.iterdir() if path.suffix}
    assert names >= {"best.h5", "mask_rcnn_small_0003.h5", "results.csv", "config.json"}
    assert "mask_rcnn_small_0002.h5" not in names
    assert json.loads((folder / "config.json").read_text())["NUM_CLASSES"] == 3
    assert history.history["segm_AP"] == [0.2, 0.4, 0.3]

    rows = rows_of(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert [float(row["segm_AP"]) for row in rows] == [0.2, 0.4, 0.3]
    assert rows[0]["segm_AP75"] == ""  # nothing of that kind
    minutes = [float(row["minutes"]) for row in rows]
    assert 0 < minutes[0] < minutes[1] < minutes[2]
    assert math.isclose(float(rows[2]["loss"]), history.history["loss"][2], rel_tol=1e-6)
    assert math.isclose(float(rows[0]["learning_rate"]), 0.001, rel_tol=1e-6)

    best = folder / "best.h5"
    assert hdf5.read_settings(best)["epoch"] == 2
    assert hdf5.read_settings(best)["scores"]["segm_AP"] == 0.4
    assert not hdf5.read_optimizer(best)
    last = folder / "mask_rcnn_small_0003.h5"
    assert best.stat().st_size < 0.6 * last.stat().st_size


@pytest.mark.usefixtures("eagerly")
def test_a_resumed_run_goes_on_with_its_table_and_its_best(tmp_path, monkeypatch):
    scored(monkeypatch, 0.4, 0.3, 0.5)
    model = make_model(tmp_path)
    model.train(Rectangles(), Rectangles(2), Options(0.001, epochs=1))
    again = make_model(tmp_path)
    again.load("last")
    best = again.run.folder / "best.h5"
    again.train(Rectangles(), Rectangles(2), Options(0.001, epochs=2))
    assert hdf5.read_settings(best)["epoch"] == 1
    again.train(Rectangles(), Rectangles(2), Options(0.001, epochs=3))
    assert hdf5.read_settings(best)["epoch"] == 3
    rows = rows_of(again.run.folder)
    assert [float(row["segm_AP"]) for row in rows] == [0.4, 0.3, 0.5]
    minutes = [float(row["minutes"]) for row in rows]
    assert minutes == sorted(minutes)


@pytest.mark.usefixtures("eagerly")
def test_training_stops_when_scores_get_no_better(tmp_path, monkeypatch, capsys):
    calls = scored(monkeypatch, 0.4, 0.1, 0.39, 0.9)
    model = make_model(tmp_path, STEPS_PER_EPOCH=1)
    model.train(Rectangles(), Rectangles(2), Options(0.001, epochs=9, patience=2))
    assert len(calls) == 3
    assert model.run.epoch == 3
    assert "segm_AP has not exceeded the 0.400 of epoch 1 for 2 epochs" in capsys.readouterr().out


class Explode(keras.callbacks.Callback):
    """Spoils the weights after a step of the training, as often as it is told to."""

    def __init__(self, step: int, times: int) -> None:
        super().__init__()
        self.step, self.times, self.steps = step, times, []

    def on_train_batch_end(self, batch, logs=None):
        del batch
        self.steps.append(int(self.model.optimizer.iterations))
        if self.steps[-1] == self.step and self.times:
            self.times -= 1
            logs["loss"] = math.nan
            for weight in self.model.trainable_weights:
                weight.assign(np.full(weight.shape, np.nan))


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in rows_of(folder)]


@pytest.mark.usefixtures("eagerly")
def test_a_divergence_goes_back_to_the_last_checkpoint_with_a_lower_rate(tmp_path, caplog):
    explode = Explode(step=4, times=1)
    # Before our own callback, which sees what the step left.
    model = make_model(tmp_path, CHECKPOINT_STEPS=1, STEPS_PER_EPOCH=3)
    history = model.train(Rectangles(), None, Options(0.004, epochs=2, callbacks=[explode]))
    assert explode.steps == [1, 2, 3, 4, 4, 5, 6]
    assert history.epoch == [0, 1]
    assert np.isfinite(history.history["loss"]).all()
    assert "Going back to epoch 2, step 1, with 0.5 times the learning rate" in caplog.text
    rates = [float(row["learning_rate"]) for row in rows_of(model.run.folder)]
    np.testing.assert_allclose(rates, [0.004, 0.002])
    last = hdf5.read_settings(Path(model.run.checkpoint_path.format(epoch=2)))
    assert last["rate_factor"] == 0.5

    resumed = make_model(tmp_path, STEPS_PER_EPOCH=3)
    resumed.load("last")
    resumed.train(Rectangles(), None, Options(0.004, epochs=3))
    rates = [float(row["learning_rate"]) for row in rows_of(model.run.folder)]
    np.testing.assert_allclose(rates, [0.004, 0.002, 0.002])


@pytest.mark.usefixtures("eagerly")
def test_before_the_first_checkpoint_a_divergence_goes_back_to_the_start(tmp_path):
    straight = make_model(tmp_path / "a")
    straight.train(Rectangles(), None, Options(0.002, epochs=1))
    model = make_model(tmp_path / "b")
    explode = Explode(step=1, times=1)
    model.train(Rectangles(), None, Options(0.004, epochs=1, callbacks=[explode]))
    assert losses(model.run.folder) == losses(straight.run.folder)


@pytest.mark.usefixtures("eagerly")
def test_a_second_training_in_a_program_goes_back_to_its_own_start(tmp_path, caplog):
    model = make_model(tmp_path)
    model.train(Rectangles(), None, Options(0.004, epochs=1))
    explode = Explode(step=3, times=1)
    model.train(Rectangles(), None, Options(0.004, epochs=2, callbacks=[explode]))
    assert explode.steps == [3, 3, 4]
    assert "Going back to epoch 2, step 1" in caplog.text
    assert [row["epoch"] for row in rows_of(model.run.folder)] == ["1", "2"]
    assert np.isfinite(losses(model.run.folder)).all()


@pytest.mark.usefixtures("eagerly")
def test_a_training_that_keeps_diverging_is_given_up(tmp_path, caplog):
    model = make_model(tmp_path)
    explode = Explode(step=1, times=99)
    with pytest.raises(TrainingDiverged, match="not finite"):
        model.train(Rectangles(), None, Options(0.004, epochs=1, callbacks=[explode]))
    assert explode.steps == [1] * (1 + len(recovery.FACTORS))
    assert caplog.text.count("Going back to epoch 1, step 1") == len(recovery.FACTORS)


class OneSecondAStep(keras.callbacks.Callback):
    """A clock for the modules of training, by which every step takes a second."""

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        self.now = 0.0
        for module in (budget, clock):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def on_train_batch_begin(self, batch, logs=None):
        del batch, logs
        self.now += 1


@pytest.mark.usefixtures("eagerly")
def test_a_training_of_limited_time_ends_in_it_with_its_schedule_done(
    tmp_path, capsys, monkeypatch
):
    watch = OneSecondAStep(monkeypatch)
    model = make_model(tmp_path, STEPS_PER_EPOCH=4, WARMUP_STEPS=3)
    options = Options(0.01, epochs=None, minutes=0.3, callbacks=[watch])
    history = model.train(Rectangles(), None, options)
    assert 14 <= watch.now <= 18
    assert len(history.epoch) == -(-watch.now // 4)
    rates = [float(row["learning_rate"]) for row in rows_of(model.run.folder)]
    np.testing.assert_allclose(rates[-1], 0.0001, rtol=1e-5)  # after both drops
    assert "Epoch 1/?" in capsys.readouterr().out

    again = make_model(tmp_path, STEPS_PER_EPOCH=4, WARMUP_STEPS=3)
    again.load("last")
    before, used = again.run.epoch, watch.now
    again.train(Rectangles(), None, options._replace(minutes=0.2))
    assert (again.run.epoch, watch.now) == (before, used)  # its time is over
    again.train(Rectangles(), None, options._replace(minutes=0.4))
    assert used < watch.now <= 24


def test_nothing_that_ends_a_training_is_refused():
    with pytest.raises(ValueError, match="give epochs or minutes"):
        Options(0.1, epochs=None).checked()
    with pytest.raises(ValueError, match="minutes must be a number above 0, got -1"):
        Options(0.1, epochs=1, minutes=-1).checked()
    with pytest.raises(ValueError, match=r"keep must be a whole number above 0, got 1\.5"):
        Options(0.1, epochs=1, keep=1.5).checked()


def test_scores_take_a_fifth_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(scoring.time, "monotonic", lambda: now[0])

    def score():
        now[0] += 10
        return {"bbox": {"AP": 0.1}}

    scorer = scoring.Scorer(score, lambda: 60.0)
    callback = scoring.ValidationScores(scorer, 100, lambda *_: None)
    callback.set_model(keras.Sequential())
    callback.model.stop_training = False
    due = []
    for epoch in range(100):
        now[0] += 5
        logs: dict[str, float] = {}
        callback.on_epoch_end(epoch, logs)
        due += [epoch] if logs else []
    assert due[0] == 11  # after as many seconds as it was expected to take
    assert due[-1] == 99
    assert 0.15 * now[0] < 10 * len(due) < 0.25 * now[0]


def test_the_schedule_keeps_what_has_passed():
    schedule = Replannable(1.0, 10)
    rate = lambda step: round(float(schedule(step)), 4)  # noqa: E731
    assert [rate(0), rate(5), rate(10), rate(10**6)] == [0.1, 0.55, 1, 1]
    schedule.plan(total=90, done=4)
    assert [rate(9), rate(59), rate(60), rate(80)] == [1, 1, 0.1, 0.01]
    schedule.plan(total=900, done=70)  # faster than it seemed: what has dropped stays dropped
    assert [rate(70), rate(799), rate(800)] == [0.1, 0.1, 0.01]
    schedule.plan(total=72, done=75)  # slower
    assert rate(75) == 0.01


def test_the_plan_follows_the_speed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    callback = budget.Budget(1000.0, 50, lambda: 20.0)
    callback.set_model(keras.Sequential())
    callback.model.stop_training = False
    shown = []
    callback.show_epochs = shown.append
    callback.schedule = Replannable(1.0, 10)
    epoch = 0
    while not callback.model.stop_training:
        callback.on_epoch_begin(epoch)
        for batch in range(50):
            now[0] += 30 if epoch == batch == 0 else 1.0 if epoch < 4 else 2.0
            callback.on_train_batch_end(batch)
            if callback.model.stop_training:
                break
        now[0] += 5  # validation
        callback.on_epoch_end(epoch)
        epoch += 1
    assert 930 < now[0] <= 1000
    # 30 + 200 steps of 1 s, then 2 s a step and 5 s an epoch: some 330 steps more, or less
    assert 480 < callback.total < 570
    assert shown[-1] == epoch
    assert float(callback.schedule(callback.total)) == pytest.approx(0.01)


def test_a_table_that_is_none_is_refused(tmp_path):
    (tmp_path / "results.csv").write_text("epoch,loss\n1,low\n")
    with pytest.raises(ValueError, match=r"results\.csv: not a table of results"):
        results.read(tmp_path)
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="a row has no epoch"):
        results.read(tmp_path)


def test_rows_after_the_epoch_that_is_resumed_are_dropped(tmp_path):
    table = results.Results(tmp_path, 0, 5, Clock())
    table.set_model(keras.Sequential([keras.layers.Dense(1)]))
    table.model.compile(keras.optimizers.SGD(0.1))
    for epoch in range(3):
        table.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1), "AP": math.nan if epoch else 0.5})
    assert [row.get("AP") for row in results.read(tmp_path)] == [0.5, None, None]
    resumed = results.Results(tmp_path, 2, 5, Clock(7))
    assert [row["epoch"] for row in resumed.rows] == [1, 2]


@pytest.mark.usefixtures("eagerly", "detecting_eagerly")
def test_the_scores_of_an_epoch_are_those_of_the_network_after_it(tmp_path, caplog):
    model = make_model(tmp_path, STEPS_PER_EPOCH=1, DETECTION_MAX_INSTANCES=2)
    history = model.train(Rectangles(), Rectangles(2), Options(0.01, epochs=1))
    assert "DETECTION_MAX_INSTANCES" not in caplog.text
    scores = scoring.flat(model.evaluate(Rectangles(2), verbose=0))
    assert {name: history.history[name][0] for name in scores} == scores
