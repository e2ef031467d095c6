from __future__ import annotations

import copy
import itertools
import math
import re

import pytest
import torch
from torch.func import functional_call, grad, vmap

import tidegate
from tidegate.kernels import crf
from tidegate.kernels.ragged import from_batch_major, pack, pad, ragged_from_lengths, ragged_full, to_batch_major
from tidegate.layers.crf import CRF

LENGTHS = [2, 5, 0, 4, 1]
# Tags O, B, I: I follows B or I only, and is never first.
ALLOWED = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
ALLOWED_START = torch.tensor([True, True, False])


def inputs(num_tags, lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ragged = ragged_from_lengths(lengths)
    emissions = torch.randn(ragged.num_values, num_tags, generator=generator, dtype=torch.float64) * 2
    return emissions, torch.randint(0, num_tags, (ragged.num_values,), generator=generator), ragged


def layer_with_scores(num_tags, **masks):
    torch.manual_seed(1)
    layer = CRF(num_tags, **masks, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer


def test_rows_come_back_in_the_callers_order():
    layer = layer_with_scores(4)
    emissions, tags, ragged = inputs(4)
    likelihood, partition = layer.log_likelihood(emissions, tags, ragged), layer.log_partition(emissions, ragged)
    _, scores = layer.decode(emissions, ragged)
    best = layer.decode_k_best(emissions, ragged, 2)
    rows = zip(
        to_batch_major(emissions, ragged).split(LENGTHS), to_batch_major(tags, ragged).split(LENGTHS), strict=True
    )
    for row, (emission, tag) in enumerate(rows):
        alone = ragged_from_lengths([LENGTHS[row]])
        parameters = (layer.transitions, layer.start_transitions, layer.end_transitions)
        expected = crf.log_likelihood(emission, tag, *parameters, alone, backend="reference")
        torch.testing.assert_close(likelihood[row : row + 1], expected)
        expected = crf.log_partition(emission, *parameters, alone, backend="reference")
        torch.testing.assert_close(partition[row : row + 1], expected)
        expected = crf.k_best_paths(emission, *parameters, alone, 2, backend="reference")[1]
        torch.testing.assert_close(best.scores[row : row + 1], expected)
        torch.testing.assert_close(scores[row : row + 1], expected[:, 0])
    assert likelihood[2] == partition[2] == scores[2] == 0
    torch.testing.assert_close(layer(emissions, tags, ragged), likelihood)


def test_the_likelihoods_of_all_paths_sum_to_one():
    layer = layer_with_scores(3)
    emissions, _, ragged = inputs(3, [4])
    paths = torch.tensor(list(itertools.product(range(3), repeat=4)))
    total = torch.stack([layer.log_likelihood(emissions, path, ragged) for path in paths]).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_probabilities_of_the_k_best():
    layer = layer_with_scores(3)
    emissions, _, ragged = inputs(3, [3, 1, 0])
    best = layer.decode_k_best(emissions, ragged, 30)
    torch.testing.assert_close(best.probabilities.sum(1), torch.ones(3, dtype=torch.float64))
    assert (best.probabilities > 0).sum(1).tolist() == [27, 3, 1]
    assert (best.probabilities[:, :-1] >= best.probabilities[:, 1:]).all()
    for rank in range(3):
        expected = layer.log_likelihood(emissions, best.tags[:, rank], ragged)[:2].exp()
        torch.testing.assert_close(best.probabilities[:2, rank], expected)


def test_masks_forbid():
    layer = layer_with_scores(3, allowed=ALLOWED, allowed_start=ALLOWED_START)
    with torch.no_grad():
        layer.transitions[0, 2] = layer.start_transitions[2] = 100.0  # what the masks forbid must not count
    emissions, _, ragged = inputs(3, [6] * 5)
    emissions[:, 2] += 5.0
    for row in to_batch_major(layer.decode(emissions, ragged)[0], ragged).split(6):
        path = row.tolist()
        assert path[0] != 2
        assert (0, 2) not in set(itertools.pairwise(path))
        assert 2 in path
    marginals = layer.marginals(emissions, ragged)
    torch.testing.assert_close(marginals.sum(1), torch.ones(30, dtype=torch.float64))
    assert not marginals[:5, 2].any()
    loss = -layer.log_likelihood(emissions, from_batch_major(torch.tensor([0, 1, 2, 2, 0, 1] * 5), ragged), ragged)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert layer.transitions.grad[0, 2] == layer.start_transitions.grad[2] == 0
    assert layer.transitions.grad[1, 2] != 0
    forbidden = from_batch_major(torch.tensor([0, 2, 2, 2, 0, 1] * 5), ragged)
    assert torch.isneginf(layer.log_likelihood(emissions, forbidden, ragged)).all()


LEGAL = {
    "bio": r"(O |B-(\w+) (I-\2 )*)*",
    "bioes": r"(O |S-\w+ |B-(\w+) (I-\2 )*E-\2 )*",
    "bilou": r"(O |U-\w+ |B-(\w+) (I-\2 )*L-\2 )*",
}


@pytest.mark.parametrize("scheme", LEGAL)
def test_legality_is_built_from_the_labels(scheme):
    """Of all sequences of three tags, those that have a probability are the legal ones, and they share all of it."""
    types = ("PER", "LOC")
    letters = {"bio": "BI", "bioes": "BIES", "bilou": "BILU"}[scheme]
    labels = ["O", *(f"{letter}-{kind}" for kind in types for letter in letters)]
    masks = tidegate.transition_masks(labels, scheme)
    layer = layer_with_scores(len(labels))
    given = CRF(len(labels), *masks, dtype=torch.float64)
    given.load_state_dict(layer.state_dict())
    emissions, _, ragged = inputs(len(labels), [3])
    paths = list(itertools.product(range(len(labels)), repeat=3))
    likelihoods = torch.stack([given.log_likelihood(emissions, torch.tensor(path), ragged) for path in paths]).flatten()
    assert likelihoods.exp().sum().item() == pytest.approx(1)
    for path, likelihood in zip(paths, likelihoods.tolist(), strict=True):
        text = "".join(f"{labels[tag]} " for tag in path)
        assert (likelihood > -math.inf) == (re.fullmatch(LEGAL[scheme], text) is not None), text
    best = given.decode_k_best(emissions, ragged, 4)
    ranked = likelihoods.sort(descending=True).values[:4].exp()
    torch.testing.assert_close(best.probabilities[0], ranked.detach())


def test_what_may_be_last():
    layer = layer_with_scores(2, allowed_end=torch.tensor([False, True]))
    emissions, _, ragged = inputs(2, [1, 3, 4])
    emissions[:, 0] += 20
    tags = pad(layer.decode(emissions, ragged)[0], ragged)
    assert [tags[row, length - 1].item() for row, length in enumerate([1, 3, 4])] == [1, 1, 1]
    assert tags[2, :3].tolist() == [0, 0, 0]


def test_a_field_without_a_path():
    layer = layer_with_scores(2, allowed=torch.zeros(2, 2, dtype=torch.bool))
    emissions, _, ragged = inputs(2, [3, 1])
    tags, scores = layer.decode(emissions, ragged)
    assert to_batch_major(tags, ragged)[:3].tolist() == [-1, -1, -1]
    assert scores[0] == -math.inf
    best = layer.decode_k_best(emissions, ragged, 2)
    torch.testing.assert_close(best.probabilities.sum(1), torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert not layer.marginals(emissions, ragged)[ragged.row_of == 0].any()


def test_the_state_dict_is_that_of_pytorch_crf():
    layer = CRF(5, allowed=torch.ones(5, 5, dtype=torch.bool))
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {"start_transitions": (5,), "end_transitions": (5,), "transitions": (5, 5)}
    assert max(parameter.abs().max() for parameter in layer.parameters()) <= 0.1
    torchcrf = pytest.importorskip("torchcrf")
    theirs = torchcrf.CRF(5, batch_first=True)
    layer.load_state_dict(theirs.state_dict())
    emissions, tags, ragged = inputs(5, [4, 2, 3])
    emissions = emissions.float()
    mask = torch.arange(4) < ragged.lengths[:, None]
    expected = theirs(pad(emissions, ragged), pad(tags, ragged), mask, reduction="none")
    torch.testing.assert_close(layer.log_likelihood(emissions, tags, ragged), expected)
    theirs.load_state_dict(CRF(5).state_dict())


def test_it_learns_what_follows_what():
    """Emissions that say nothing: only the transitions can tell 0 1 2 0 1 2 from noise."""
    torch.manual_seed(0)
    layer, ragged = CRF(3), ragged_from_lengths([9, 6, 7])
    emissions = torch.zeros(22, 3)
    tags = ragged.step_of % 3
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = -layer.log_likelihood(emissions, tags, ragged).sum()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
    assert torch.equal(layer.decode(emissions, ragged)[0], tags)


def test_masks_move_with_the_layer_and_copies_are_their_own():
    mask = ALLOWED.clone()
    layer = CRF(3, allowed=mask)
    mask.zero_()
    assert torch.equal(layer.allowed, ALLOWED)
    other = copy.deepcopy(layer).double()
    assert other.allowed.dtype == torch.bool
    assert CRF(3, allowed=ALLOWED, device="meta").allowed.device.type == "meta"


# Dynamo itself instantiates autograd Functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_whole_forward_and_backward():
    layer = layer_with_scores(3, allowed=ALLOWED, allowed_start=ALLOWED_START)
    padded = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, 2.0, -1.0])
    leaves = [padded, *layer.parameters()]

    def loss(padded, tags, lengths):
        ragged = ragged_from_lengths(lengths, 4)
        return -(layer.log_likelihood(pack(padded, ragged), pack(tags, ragged), ragged) * weights).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for lengths in ([4, 2, 3], [1, 4, 4]):
        arguments = (padded, torch.ones(3, 4, dtype=torch.int64), torch.tensor(lengths))
        torch.testing.assert_close(compiled(*arguments), loss(*arguments))
        expected = torch.autograd.grad(loss(*arguments), leaves)
        for a, b in zip(torch.autograd.grad(compiled(*arguments), leaves), expected, strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.crf = layer_with_scores(4)

    def forward(self, emissions):
        ragged = ragged_full(3, 5)
        return *self.crf.decode(emissions, ragged), *self.crf.decode_k_best(emissions, ragged, 2)


def test_decoding_compiles_and_exports():
    tagger = Tagger()
    emissions = inputs(4, [5, 5, 5])[0]
    compiled = torch.compile(tagger, fullgraph=True, backend="aot_eager")
    program = torch.export.export(tagger, (emissions,))
    for module in (compiled, program.module()):
        for a, b in zip(module(emissions), tagger(emissions), strict=True):
            assert torch.equal(a, b)
    torch._dynamo.reset()


def test_gradients_of_each_sample_by_vmap():
    layer = layer_with_scores(4)
    ragged = ragged_full(1, 5)
    emissions = torch.randn(3, 5, 4, dtype=torch.float64)
    tags = torch.randint(0, 4, (3, 5))
    parameters = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(parameters, emissions, tags):
        return -functional_call(layer, parameters, (emissions, tags, ragged)).sum()

    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, emissions, tags)
    for i in range(3):
        expected = grad(loss)(parameters, emissions[i], tags[i])
        for name, value in expected.items():
            torch.testing.assert_close(found[name][i], value)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_tags must be at least 1; found 0"):
        CRF(0)
    with pytest.raises(ValueError, match=r"expected allowed of torch.bool and shape \(3, 3\); found torch.float32"):
        CRF(3, allowed=torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"expected allowed_end of torch.bool and shape \(3,\); found .*\(2,\)"):
        CRF(3, allowed_end=torch.ones(2, dtype=torch.bool))
    emissions, tags, ragged = inputs(4)
    with pytest.raises(ValueError, match="expected tags from 0 to 3; found 4"):
        layer_with_scores(4).log_likelihood(emissions, torch.full_like(tags, 4), ragged)


def test_it_is_a_public_name_and_shows_its_arguments():
    assert tidegate.CRF is CRF
    assert repr(CRF(3)) == "CRF(3)"
    assert repr(CRF(3, allowed=ALLOWED)) == "CRF(3, allowed=...)"
