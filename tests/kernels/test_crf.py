"""The contract suite of the CRF: the native kernels against the reference, and both against all paths enumerated."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.crf_cases import BACKENDS, FORBIDDEN, LENGTHS, Case, Enumerated, assert_all_close, tags_of_rows
from tidegate.kernels import crf
from tidegate.kernels.ragged import flip, from_batch_major, pad, ragged_from_lengths, to_batch_major
from tidegate.native import extension

ISAS = extension().available_isas()
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
SIZES = [1, 2, 7, 9, 16, 17, 33, 70]


@pytest.fixture(autouse=True)
def _best_isa_afterwards():
    yield
    extension().set_isa("")


SMALL = [([3, 0, 1, 4, 2], 3), ([5, 5], 2), ([1, 2], 5), ([4], 1), ([0], 2)]


def enumerated_cases():
    for (lengths, num_tags), forbidding in itertools.product(SMALL, (False, True)):
        if forbidding and num_tags < 3:
            continue
        yield lengths, num_tags, forbidding


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("lengths", "num_tags", "forbidding"), list(enumerated_cases()))
def test_equals_the_enumeration_of_all_paths(backend, lengths, num_tags, forbidding):
    case = Case(lengths, num_tags)
    if forbidding:
        case.forbid(**FORBIDDEN)
    oracle = Enumerated(case)
    close = {"rtol": 1e-12, "atol": 1e-12}
    log_partition = crf.log_partition(*case.leaves, case.ragged, backend=backend)
    torch.testing.assert_close(log_partition.detach(), oracle.log_partition, **close)
    torch.testing.assert_close(
        crf.marginals(*case.leaves, case.ragged, backend=backend), oracle.marginals(case), **close
    )
    value = crf.log_likelihood(case.emissions, case.tags, *case.leaves[1:], case.ragged, backend=backend)
    for place, path in enumerate(tags_of_rows(case.tags, case)):
        score = dict(zip(oracle.paths[place], oracle.scores[place].tolist(), strict=True)).get(path, -math.inf)
        expected = score - float(oracle.log_partition[place]) if score > -math.inf else -math.inf
        assert value[place].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    tags, scores = crf.best_paths(*case.leaves, case.ragged, backend=backend)
    assert tags_of_rows(tags, case) == [paths[0] for paths in oracle.paths]
    torch.testing.assert_close(scores, torch.stack([s[0] for s in oracle.scores]), **close)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 2, 7, 100])
@pytest.mark.parametrize(("lengths", "num_tags", "forbidding"), list(enumerated_cases()))
def test_the_k_best_paths_are_those_of_the_enumeration(backend, k, lengths, num_tags, forbidding):
    """k beyond the number of paths leaves -1 and minus infinity."""
    case = Case(lengths, num_tags, seed=1)
    if forbidding:
        case.forbid(**FORBIDDEN)
    oracle = Enumerated(case)
    tags, scores = crf.k_best_paths(*case.leaves, case.ragged, k, backend=backend)
    assert tags.shape == (case.ragged.num_values, k)
    for rank in range(k):
        for place, found in enumerate(tags_of_rows(tags[:, rank], case)):
            if rank < len(oracle.paths[place]):
                assert found == oracle.paths[place][rank]
                assert float(scores[place, rank]) == pytest.approx(float(oracle.scores[place][rank]), abs=1e-12)
            else:
                assert set(found) <= {-1}
                assert scores[place, rank] == -math.inf


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_among_equal_scores_the_lowest_tag_counts(backend, dtype):
    """Whole scores are full of ties, and exact."""
    for seed in range(10):
        case = Case([4, 3, 5, 1], 3, dtype=dtype, whole=True, scale=0.6, seed=seed)
        oracle = Enumerated(case)
        tags, scores = crf.best_paths(*case.leaves, case.ragged, backend=backend)
        assert tags_of_rows(tags, case) == [paths[0] for paths in oracle.paths]
        assert scores.tolist() == [float(s[0]) for s in oracle.scores]
        tags, scores = crf.k_best_paths(*case.leaves, case.ragged, 9, backend=backend)
        for rank in range(9):
            for place, found in enumerate(tags_of_rows(tags[:, rank], case)):
                if rank < len(oracle.paths[place]):
                    assert found == oracle.paths[place][rank]
                    assert scores[place, rank] == oracle.scores[place][rank]


def cases(full: bool):
    product = itertools.product(ISAS, SIZES, LENGTHS, (torch.float32, torch.float64))
    for index, case in enumerate(product):
        # A stride that is prime to every factor meets all pairs of options with a few of the cases.
        if full or index % 5 == 0:
            yield case


def check(isa, num_tags, lengths, dtype):
    extension().set_isa(isa)
    case = Case(LENGTHS[lengths], num_tags, dtype)
    exact = case.to(torch.float64)
    assert_all_close(case.values("native"), exact.values("reference"), TOLERANCE[dtype])
    for found, expected in (
        (crf.best_paths(*case.leaves, case.ragged), crf.best_paths(*case.leaves, case.ragged, backend="reference")),
        (
            crf.k_best_paths(*case.leaves, case.ragged, 5),
            crf.k_best_paths(*case.leaves, case.ragged, 5, backend="reference"),
        ),
    ):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize(("isa", "num_tags", "lengths", "dtype"), list(cases(full=False)))
def test_native_equals_reference(isa, num_tags, lengths, dtype):
    check(isa, num_tags, lengths, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_native_equals_reference_in_every_combination(isa):
    for case in cases(full=True):
        if case[0] == isa:
            check(*case)


def test_many_tags():
    case = Case([6, 9, 4], 200, torch.float32)
    assert_all_close(case.values("native"), case.to(torch.float64).values("reference"), 1e-5)
    found = crf.k_best_paths(*case.leaves, case.ragged, 3)
    expected = crf.k_best_paths(*case.leaves, case.ragged, 3, backend="reference")
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@given(
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=20),
    num_tags=st.integers(1, 20),
    forbidden=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30),
    isa=st.sampled_from(ISAS),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_any_ragged_shape_and_any_rule(lengths, num_tags, forbidden, isa, seed):
    extension().set_isa(isa)
    case = Case(lengths, num_tags, seed=seed)
    case.forbid([(i % num_tags, j % num_tags) for i, j in forbidden])
    assert_all_close(case.values("native"), case.values("reference"), 1e-12)
    for k in (1, 3):
        found = crf.k_best_paths(*case.leaves, case.ragged, k)
        expected = crf.k_best_paths(*case.leaves, case.ragged, k, backend="reference")
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    found = crf.best_paths(*case.leaves, case.ragged)
    assert torch.equal(found[0], crf.k_best_paths(*case.leaves, case.ragged, 1)[0].squeeze(1))


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_alone_equals_the_row_in_a_batch(isa):
    """Bit for bit: what a row is computed beside changes nothing."""
    extension().set_isa(isa)
    case = Case(LENGTHS["many"], 9, torch.float32)
    parameters = case.leaves[1:]
    together = crf.log_partition(*case.leaves, case.ragged)
    emissions, marginals = (
        pad(values, case.ragged) for values in (case.emissions, crf.marginals(*case.leaves, case.ragged))
    )
    tags, scores = crf.best_paths(*case.leaves, case.ragged)
    tags = pad(tags, case.ragged)
    for place, row in enumerate(case.ragged.order.tolist()):
        length = case.lengths[row]
        ragged = ragged_from_lengths([length])
        alone = (emissions[row, :length], *parameters, ragged)
        assert torch.equal(crf.log_partition(*alone), together[place : place + 1])
        assert torch.equal(crf.marginals(*alone), marginals[row, :length])
        assert torch.equal(crf.best_paths(*alone)[0], tags[row, :length])
        assert torch.equal(crf.best_paths(*alone)[1], scores[place : place + 1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_marginals_sum_to_one(backend):
    case = Case(LENGTHS["many"], 17)
    sums = crf.marginals(*case.leaves, case.ragged, backend=backend).sum(1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_read_backwards_it_is_the_same_field(backend):
    """The transposed transitions, start and end exchanged, on flipped rows."""
    case = Case(LENGTHS["ragged"], 6)
    flipped = (flip(case.emissions, case.ragged), case.transitions.t(), case.end, case.start, case.ragged)
    forwards, backwards = crf.log_partition(*case.leaves, case.ragged), crf.log_partition(*flipped, backend=backend)
    torch.testing.assert_close(forwards, backwards, rtol=1e-12, atol=1e-12)
    mirrored = flip(crf.marginals(*flipped, backend=backend), case.ragged)
    torch.testing.assert_close(crf.marginals(*case.leaves, case.ragged), mirrored, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_without_a_path_and_paths_that_are_forbidden(backend):
    # Tag 0 cannot go on, and tag 1 can neither start nor be reached: rows of two steps and more have no path.
    case = Case([2, 1, 0, 3], 2).forbid([(0, 0), (0, 1)], start=[1])
    case.tags = from_batch_major(torch.tensor([0, 0, 1, 0, 0, 0]), case.ragged)
    log_partition = crf.log_partition(*case.leaves, case.ragged, backend=backend)
    assert torch.isneginf(log_partition).tolist() == [True, True, False, False]
    value = crf.log_likelihood(case.emissions, case.tags, *case.leaves[1:], case.ragged, backend=backend)
    assert value.tolist() == [-math.inf, -math.inf, -math.inf, 0.0]
    for result in (log_partition, value):
        grads = torch.autograd.grad(result.sum(), case.leaves)
        assert all(torch.isfinite(grad).all() for grad in grads)
        if result is value:
            assert not any(grad.any() for grad in grads)
    marginals = to_batch_major(crf.marginals(*case.leaves, case.ragged, backend=backend), case.ragged)
    assert torch.equal(marginals, torch.tensor([[0, 0], [0, 0], [1, 0], [0, 0], [0, 0], [0, 0]]).double())
    tags, scores = crf.best_paths(*case.leaves, case.ragged, backend=backend)
    assert tags_of_rows(tags, case) == [(-1, -1, -1), (-1, -1), (0,), ()]
    assert torch.isneginf(scores).tolist() == [True, True, False, False]
    tags, scores = crf.k_best_paths(*case.leaves, case.ragged, 2, backend=backend)
    assert tags_of_rows(tags[:, 0], case) == [(-1, -1, -1), (-1, -1), (0,), ()]
    assert torch.isneginf(scores[:, 1]).all()
    assert scores[3, 0] == 0


def test_the_automatic_choice():
    assert crf.choose_backend("cpu", torch.float32) == "native"
    assert crf.choose_backend("cpu", torch.float64) == "native"
    assert crf.choose_backend("cpu", torch.bfloat16) == "reference"
    assert crf.choose_backend("cuda", torch.float32) == "reference"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tag", [-1, 4])
def test_a_tag_that_there_is_not(backend, tag):
    case = Case([3, 2], 4)
    case.tags[3] = tag
    with pytest.raises(ValueError, match=f"expected tags from 0 to 3; found {tag} at value 3 of the ragged values"):
        crf.log_likelihood(case.emissions, case.tags, *case.leaves[1:], case.ragged, backend=backend)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"emissions": c.emissions[:-1]}, r"expected emissions of shape \[5, K\].*found \(4, 4\)"),
        (lambda c: {"emissions": c.emissions[:, :0]}, r"with K of at least 1; found \(5, 0\)"),
        (lambda c: {"transitions": c.transitions[:3]}, r"expected transitions of shape \(4, 4\); found \(3, 4\)"),
        (lambda c: {"start": c.start.float()}, "expected start of torch.float64 on cpu, as emissions"),
        (lambda c: {"end": c.end[:2]}, r"expected end of shape \(4,\); found \(2,\)"),
        (lambda c: {"tags": c.tags.int()}, r"expected tags of torch.int64, shape \(5,\).*found torch.int32"),
        (lambda c: {"tags": c.tags[:2]}, r"expected tags of torch.int64, shape \(5,\).*shape \(2,\)"),
        (lambda c: {"backend": "cudnn"}, "unknown backend 'cudnn'; expected one of native, reference"),
    ],
)
def test_arguments_that_do_not_fit(change, message):
    case = Case([3, 2], 4)
    arguments = {
        "emissions": case.emissions,
        "tags": case.tags,
        "transitions": case.transitions,
        "start": case.start,
        "end": case.end,
        "ragged": case.ragged,
    }
    with pytest.raises(ValueError, match=message):
        crf.log_likelihood(**(arguments | change(case)))


def test_a_named_backend_that_cannot_serve_says_why():
    case = Case([2], 3, torch.float16)
    with pytest.raises(ValueError, match=r"'native' cannot serve this call: .*float16"):
        crf.log_partition(*case.leaves, case.ragged, backend="native")
    with pytest.raises(ValueError, match="expected k of at least 1; found 0"):
        crf.k_best_paths(*case.leaves, case.ragged, 0)


def test_equals_pytorch_crf():
    """The second oracle: values, gradients and best paths of the package pytorch-crf, on padded rows."""
    torchcrf = pytest.importorskip("torchcrf")
    case = Case([4, 1, 6, 6, 2], 5)
    theirs = torchcrf.CRF(5, batch_first=True).double()
    with torch.no_grad():
        for mine, name in zip(case.leaves[1:], ("transitions", "start_transitions", "end_transitions"), strict=True):
            getattr(theirs, name).copy_(mine)
    mask = torch.arange(6) < case.ragged.lengths[:, None]
    value = theirs(pad(case.emissions, case.ragged), pad(case.tags, case.ragged), mask, reduction="none")
    value = value[case.ragged.order]
    parameters = [theirs.transitions, theirs.start_transitions, theirs.end_transitions]
    grads = torch.autograd.grad((value * case.weights).sum(), [case.emissions, *parameters])
    found = case.values("native")
    assert_all_close(found[:5], [value.detach(), *grads], 1e-12)
    paths = theirs.decode(pad(case.emissions, case.ragged), mask)
    tags, _ = crf.best_paths(*case.leaves, case.ragged)
    assert tags_of_rows(tags, case) == [tuple(paths[row]) for row in case.ragged.order.tolist()]
