"""Oracle: the bilinear form and the mean critical patch written out in NumPy."""

import numpy as np
import torch

from mcti.model.heads import Pairing
from tests.model.cases import batch, config, network


def test_the_pairing_is_the_weighted_sum_of_products_of_directions():
    torch.manual_seed(0)
    layer = Pairing(5, 7, 3, 2)
    torch.nn.init.normal_(layer.out.weight)
    left, right = torch.randn(4, 5), torch.randn(4, 7)
    a, b, c = (part.weight.detach().numpy() for part in (layer.left, layer.right, layer.out))
    form = np.einsum("or,rp,rq->opq", c, a, b)
    expected = np.einsum("opq,np,nq->no", form, left.numpy(), right.numpy())
    np.testing.assert_allclose(layer(left, right).detach().numpy(), expected, atol=1e-5)


def test_a_new_network_is_not_changed_by_its_pairing():
    net = network(config(bilinear_rank=3), loud=False).eval()
    with_it = net(*batch([9, 4])).hazard_logits
    net.survival_head.linear_skip.pairing = None
    torch.testing.assert_close(net(*batch([9, 4])).hazard_logits, with_it, rtol=0, atol=0)


def test_the_focus_is_the_mean_critical_patch_weighed_by_the_softmax_of_its_score():
    """The second bag has four patches for six positions: absent ones have no weight."""
    net, (patches, mask, genes) = network(config(critical=6)).eval(), batch([9, 4])
    mined = net.pathology(*net.axes(patches, genes)[:1], mask)
    for row, count in ((0, 6), (1, 4)):
        scores = net.pathology.instance(patches[row]).amax(-1).detach().numpy()[: int(mask[row].sum())]
        best = np.argsort(-scores, kind="stable")[:count]
        weights = np.exp(scores[best]) / np.exp(scores[best]).sum()
        np.testing.assert_allclose(mined.focus[row].detach().numpy(), weights @ patches[row].numpy()[best], atol=1e-5)


def test_the_survival_loss_trains_the_instance_classifier_through_the_focus():
    """Without the gate it has no other influence on the hazards."""
    reached = {}
    for pairs in (0, 2):
        net = network(config(bilinear_rank=pairs, soft_instance_gate=False))
        net(*batch([9, 4])).hazard_logits.sum().backward()
        gradient = net.pathology.instance.weight.grad
        reached[pairs] = gradient is not None and bool(gradient.any())
    assert reached == {0: False, 2: True}
