import torch

from mcti.training.run import Run
from tests.training.test_loop import task


def state(**changes):
    return Run(task(**changes), torch.device("cpu")).state


def test_an_epoch_closes_with_the_means_over_its_patients():
    current = state()
    current.sums, current.patients, current.risks = {"loss": 6.0}, 4, [0.1, 0.2, 0.3, 0.4]
    current.close_epoch(0, 1e-3, 0.75)
    assert current.history == [{"epoch": 1.0, "loss": 1.5, "c_index": 0.75, "learning_rate": 1e-3}]
    assert (current.sums, current.patients, current.risks) == ({}, 0, [])


def test_the_weights_of_the_lowest_validation_loss_are_kept():
    current = state()
    parameter = next(current.net.parameters())
    for epoch, (loss, value) in enumerate([(2.0, 0.0), (1.0, 1.0), (1.5, 2.0)]):
        parameter.data.fill_(value)
        current.history.append({"epoch": float(epoch + 1)})
        current.record_validation(loss, 0.5 + epoch / 10)
    assert current.best == {"loss": 1.0, "epoch": 2.0, "stale": 1.0}
    assert [row["validation"] for row in current.history] == [2.0, 1.0, 1.5]
    assert [row["validation_c_index"] for row in current.history] == [0.5, 0.6, 0.7]
    assert float(next(current.kept().parameters()).detach().mean()) == 1.0


def test_stored_risks_are_the_latest_of_the_last_patients():
    current = state()
    current.store_risks({"a": (0.1, 1.0), "b": (0.2, 2.0)}, 2)
    current.store_risks({"a": (0.9, 1.0), "c": (0.3, 3.0)}, 2)
    assert current.memory == {"a": [0.9, 1.0], "c": [0.3, 3.0]}
    current.store_risks({"d": (0.4, 4.0)}, 0)
    assert current.memory == {}


def test_a_state_is_restored_from_its_checkpoint():
    one, two = state(ema=0.5), state(ema=0.5)
    one.step, one.history = 3, [{"epoch": 1.0}]
    one.store_risks({"b": (0.2, 2.0), "a": (0.1, 1.0)}, 9)
    for parameter in one.net.parameters():
        parameter.data.add_(1.0)
    two.load(one.checkpoint({}))
    assert (two.step, two.history, list(two.memory)) == (3, [{"epoch": 1.0}], ["b", "a"])
    for name, value in one.net.state_dict().items():
        assert torch.equal(two.net.state_dict()[name], value), name
