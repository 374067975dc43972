import numpy as np
import pytest
from scipy.stats import fisher_exact

from mcti.errors import DataError
from mcti.explanation.gene_sets import over_represented, read_gmt

UNIVERSE = [f"g{number}" for number in range(40)]


def test_p_agrees_with_fishers_exact_test():
    """Oracle: scipy.stats.fisher_exact, one-sided, on the same table."""
    sets = {"A": frozenset(UNIVERSE[:10]), "B": frozenset(UNIVERSE[5:30]), "C": frozenset(UNIVERSE[35:])}
    group = UNIVERSE[:8]
    for entry in over_represented([group], sets, len(UNIVERSE))[0]:
        inside = len(sets[entry.gene_set] & set(group))
        table = [[inside, len(group) - inside], [entry.set_genes - inside, 40 - len(group) - entry.set_genes + inside]]
        assert entry.overlap == inside
        assert entry.p == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-9)
        assert entry.expected == 8 * entry.set_genes / 40


def test_q_follows_the_definition_over_all_groups_and_sets():
    """Benjamini and Hochberg on m tests: q of rank r is the least p_s · m / s over the ranks s >= r."""
    sets = {"A": frozenset(UNIVERSE[:5]), "B": frozenset(UNIVERSE[20:30])}
    result = over_represented([UNIVERSE[:6], UNIVERSE[22:28]], sets, 40)
    entries = [entry for row in result for entry in row]
    ranked = sorted(entries, key=lambda entry: entry.p)
    for rank, entry in enumerate(ranked, start=1):
        assert entry.q == pytest.approx(
            min(later.p * 4 / position for position, later in enumerate(ranked, start=1) if position >= rank), rel=1e-12
        )


def test_a_planted_set_is_significant_and_random_sets_are_not():
    random = np.random.default_rng(0)
    sets = {f"R{n}": frozenset(random.choice(UNIVERSE, 8, replace=False)) for n in range(30)}
    sets["planted"] = frozenset(UNIVERSE[:8])
    result = over_represented([UNIVERSE[:8]], sets, 40)[0]
    assert result[0].gene_set == "planted"
    assert [entry.gene_set for entry in result if entry.q < 0.05] == ["planted"]


def test_sets_are_restricted_to_the_genes_of_the_model_and_small_ones_left_out(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("BIG\tabout\tg1\tg2\tg3\tXX\n\nSMALL\t\tg1\tg2\n")
    assert read_gmt(path, UNIVERSE) == {"BIG": frozenset({"g1", "g2", "g3"})}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"A\tabout\n", "not a gene set in .*line 1: write name, description and genes"),
        (b"A\tx\tg1\tg2\tg3\nA\tx\tg1\n", "'A' occurs twice in .*line 2"),
        (b"A\tx\tTP53\tMYC\tKRAS\n", r"none of 1 gene sets has 3 of the model's 40 genes.*e\.g\. g0"),
        (b"\xff\xfe\tA\n", "the file is not text"),
        (b"\n\n", "the file is empty in .*write gene sets"),
    ],
)
def test_a_malformed_gmt_file_is_an_error_that_names_the_line(tmp_path, text, words):
    path = tmp_path / "sets.gmt"
    path.write_bytes(text)
    with pytest.raises(DataError, match=words):
        read_gmt(path, UNIVERSE)
