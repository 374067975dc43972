import numpy as np

from mcti.explanation.clusters import cluster_plan, clusters


def test_well_separated_patches_fall_into_their_clusters_largest_first():
    random = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], [50, 20, 5])
    patches = (np.eye(3)[groups] * 50 + random.normal(size=(75, 3))).astype(np.float32)
    shuffled = random.permutation(75)
    result = clusters(patches[shuffled], 3)
    np.testing.assert_array_equal(result, groups[shuffled])
    np.testing.assert_array_equal(result, clusters(patches[shuffled], 3))


def test_fewer_different_patches_than_clusters():
    assert clusters(np.ones((4, 2), np.float32), 6).tolist() == [0, 0, 0, 0]
    assert set(clusters(np.eye(2, dtype=np.float32), 6).tolist()) == {0, 1}


def test_the_plan_by_cluster_equals_the_worked_out_masses():
    """Patches 0 and 1 (cluster 0) and 2 (cluster 1); token 0 has 3/4 of its mass from cluster 0, token 1 has 1/4."""
    shares = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    plan = np.array([[0.4, 0.0], [0.0, 0.2]])
    result = cluster_plan(np.array([0, 0, 1]), shares, plan)
    np.testing.assert_allclose(result, [[0.4 * 0.75, 0.2 * 0.5], [0.4 * 0.25, 0.2 * 0.5]], rtol=1e-12)
    np.testing.assert_allclose(result.sum(), plan.sum(), rtol=1e-12)
