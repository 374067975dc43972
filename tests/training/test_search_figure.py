from mcti.training import search_figure
from mcti.training.search import Trial


def test_the_figure_has_the_same_bytes_for_the_same_trials(tmp_path):
    trials = [
        Trial(0, {"x": 0.1, "head": "a"}, {0: 0.6, 1: 0.7}, "complete"),
        Trial(1, {"x": 0.2, "head": "b"}, {0: 0.5}, "pruned"),
        Trial(2, {"x": 0.3, "head": "b"}, {0: 0.7, 1: 0.7}, "complete"),
    ]
    for name in ("one.png", "two.png"):
        search_figure.draw(trials, {"x": 0.7, "head": 0.3}, tmp_path / name)
    image = (tmp_path / "one.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert image == (tmp_path / "two.png").read_bytes()


def test_values_become_ranks_between_0_and_1():
    assert search_figure._ranks([0.001, 1.0, 0.01]) == [0.0, 1.0, 0.5]
    assert search_figure._ranks(["b", "a"]) == [1.0, 0.0]
    assert search_figure._ranks([3, 3]) == [0.0, 0.0]
