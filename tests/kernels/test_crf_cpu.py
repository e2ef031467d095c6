"""The CRF's native kernels as ops: derivatives, registration, threads, and numbers that are hard."""

from __future__ import annotations

import pytest
import torch

from kernels.crf_cases import BACKENDS, FORBIDDEN, LENGTHS, Case, assert_all_close
from tidegate.kernels import crf
from tidegate.native import extension

ISAS = extension().available_isas()


@pytest.fixture(autouse=True)
def _restore_globals():
    threads = torch.get_num_threads()
    yield
    extension().set_isa("")
    torch.set_num_threads(threads)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("lengths", "num_tags"), [("ragged", 33), ("full", 90), ("many", 64)])
def test_threads_change_no_bit(isa, lengths, num_tags):
    """So many rows that every pass starts a team; more blocks of rows than parts, and a part or two to a thread."""
    extension().set_isa(isa)
    case = Case(LENGTHS[lengths] * (2500 // sum(LENGTHS[lengths])), num_tags, torch.float32)
    results = []
    for threads in (1, 2, 3, 4, 7):
        torch.set_num_threads(threads)
        decoded = crf.best_paths(*case.leaves, case.ragged) + crf.k_best_paths(*case.leaves, case.ragged, 3)
        results.append([*case.values("native"), *decoded])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("with_tags", [True, False])
def test_derivatives_against_finite_differences(with_tags):
    case = Case([3, 0, 2, 1], 4)

    def call(emissions, *parameters):
        if with_tags:
            return crf.log_likelihood(emissions, case.tags, *parameters, case.ragged, backend="native")
        return crf.log_partition(emissions, *parameters, case.ragged, backend="native")

    assert torch.autograd.gradcheck(call, case.leaves)
    assert torch.autograd.gradgradcheck(call, case.leaves)


@pytest.mark.parametrize("backend", BACKENDS)
def test_marginals_are_differentiable(backend):
    case = Case([3, 0, 2, 1], 3)
    assert torch.autograd.gradcheck(lambda *leaves: crf.marginals(*leaves, case.ragged, backend=backend), case.leaves)


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives_beside_forbidden_scores_are_finite(backend):
    case = Case([4, 2, 0, 3], 4).forbid(**FORBIDDEN)
    value = crf.log_partition(*case.leaves, case.ragged, backend=backend)
    first = torch.autograd.grad((value * case.weights).sum(), case.leaves, create_graph=True)
    second = torch.autograd.grad(sum((grad**2).sum() for grad in first), case.leaves)
    assert all(torch.isfinite(grad).all() for grad in second)
    assert sum(grad.abs().sum() for grad in second) > 0.1


# What forbids, and what is hard in float32: in `detour` every emission shouts for a tag that cannot be reached, and the
# only path goes where the probabilities of a step underflow; in `soft` a score of -1e4 stands for a rule.
def hard_cases(dtype):
    generator = torch.Generator().manual_seed(5)
    extreme = Case([12, 7, 3], 5, dtype)
    with torch.no_grad():
        extreme.emissions.copy_(1e4 * torch.randn(extreme.emissions.shape, generator=generator))
    detour = Case([9, 9, 4], 4, dtype).forbid([(i, j) for i in range(4) for j in range(4) if j != (i + 1) % 4])
    with torch.no_grad():
        detour.emissions[:, 2] += 900
        detour.start[1:] = -300
    soft = Case([15, 8, 1], 6, dtype)
    with torch.no_grad():
        soft.transitions[:3, 3:] = -1e4
        soft.emissions[:, 4] += 60
        soft.start[3:] = -1e4
    ladder = Case([15, 11], 20, dtype, scale=30.0)
    return {"extreme": extreme, "detour": detour, "soft": soft, "ladder": ladder}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["extreme", "detour", "soft", "ladder"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_numbers_are_those_of_log_space(isa, name, dtype):
    extension().set_isa(isa)
    case = hard_cases(dtype)[name]
    # Scores of 1e4 have a resolution of 1e-3 in float32, and so have probabilities that hang on their differences.
    tolerance = {torch.float32: 2e-3, torch.float64: 1e-10}[dtype]
    assert_all_close(case.values("native"), case.to(torch.float64).values("reference"), tolerance)
    tags, scores = crf.best_paths(*case.leaves, case.ragged)
    expected = crf.best_paths(*(leaf.double() for leaf in case.leaves), case.ragged, backend="reference")
    assert torch.equal(tags, expected[0])
    torch.testing.assert_close(scores.double(), expected[1], rtol=1e-6, atol=0)


def test_scores_far_apart_only_where_it_matters():
    """Float32 beside a rule of minus infinity keeps float32's accuracy, though the tags' probabilities span e^400."""
    case = Case([30, 20], 6, torch.float32).forbid([(i, 5) for i in range(5) if i != 3])
    with torch.no_grad():
        case.emissions[:, 3] -= 50
        case.emissions[:, 5] += 45
    assert_all_close(case.values("native"), case.to(torch.float64).values("reference"), 1e-5)


@pytest.mark.parametrize("isa", ISAS)
def test_a_long_row_loses_no_digits(isa):
    extension().set_isa(isa)
    case = Case([5000, 3], 7, torch.float32)
    exact = case.to(torch.float64)
    for single, double in zip(case.values("native"), exact.values("native"), strict=True):
        scale = 1 + double.abs().max()
        assert ((single.double() - double).abs().max() / scale) < 1e-5
    sums = crf.marginals(*case.leaves, case.ragged).sum(1)
    assert (sums - 1).abs().max() < 1e-4
    tags, scores = crf.best_paths(*case.leaves, case.ragged)
    expected = crf.best_paths(*exact.leaves, case.ragged)
    assert torch.equal(tags, expected[0])
    torch.testing.assert_close(scores.double(), expected[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("isa", ISAS)
def test_nan_stays_in_its_row(isa):
    extension().set_isa(isa)
    case = Case([4, 6, 5], 9, torch.float32)
    before = crf.log_partition(*case.leaves, case.ragged)
    with torch.no_grad():
        case.emissions[case.ragged.row_of == 2] = torch.nan
    after = crf.log_partition(*case.leaves, case.ragged)
    assert torch.isnan(after).tolist() == [False, True, False]
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    crf.best_paths(*case.leaves, case.ragged)
    crf.k_best_paths(*case.leaves, case.ragged, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_tags", [True, False])
def test_ops_are_registered_right(dtype, with_tags):
    case = Case([3, 1, 0, 2], 5, dtype)
    model = [leaf.detach() for leaf in case.leaves]
    tags, sizes = case.tags if with_tags else None, case.ragged.batch_sizes
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    ops = torch.ops.tidegate
    torch.library.opcheck(ops.crf_forward.default, (*model, tags, sizes, 4, True), test_utils=tests)
    value, saved = ops.crf_forward(*model, tags, sizes, 4, True)
    torch.library.opcheck(ops.crf_backward.default, (case.weights, *model, tags, sizes, value, saved), test_utils=tests)
    torch.library.opcheck(ops.crf_viterbi.default, (*model, sizes, 4), test_utils=tests)
    torch.library.opcheck(ops.crf_k_best.default, (*model, sizes, 4, 3), test_utils=tests)


def test_inference_saves_nothing_for_a_backward_pass():
    case = Case([4, 2], 3)
    model = [leaf.detach() for leaf in case.leaves]
    value, saved = torch.ops.tidegate.crf_forward(*model, case.tags, case.ragged.batch_sizes, 2, False)
    assert saved.numel() == 0
    assert torch.equal(value, torch.ops.tidegate.crf_forward(*model, case.tags, case.ragged.batch_sizes, 2, True)[0])


def test_vmap_maps_everything_but_lengths():
    case = Case([3, 1, 2], 4)
    _, *parameters = (leaf.detach() for leaf in case.leaves)
    many = torch.randn(5, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def loss(transitions, emissions):
        return crf.log_likelihood(emissions, case.tags, transitions, *parameters[1:], case.ragged).sum()

    found = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters[0], many)
    expected = torch.stack([torch.func.grad(loss)(parameters[0], one) for one in many])
    torch.testing.assert_close(found, expected)
    tags, scores = torch.vmap(lambda one: crf.best_paths(one, *parameters, case.ragged))(many)
    for i, one in enumerate(many):
        assert torch.equal(tags[i], crf.best_paths(one, *parameters, case.ragged)[0])
        assert torch.equal(scores[i], crf.best_paths(one, *parameters, case.ragged)[1])
    model = (many[0], *parameters)
    with pytest.raises(ValueError, match="vmap over lengths is not supported"):
        torch.vmap(lambda sizes: torch.ops.tidegate.crf_viterbi(*model, sizes, 3))(torch.tensor([[3, 2, 1]] * 2))


def test_autocast_computes_in_the_type_of_the_parameters():
    case = Case([4, 2], 5, torch.float32)
    half = case.emissions.detach().bfloat16()
    with torch.autocast("cpu"):
        value = crf.log_partition(half, *case.leaves[1:], case.ragged)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, crf.log_partition(half.float(), *case.leaves[1:], case.ragged))


def test_a_layout_that_does_not_fit_never_reaches_the_kernel():
    case = Case([3, 2], 4)
    model = [leaf.detach() for leaf in case.leaves]
    for sizes, message in (
        ([2, 2, 2], "add up to the 5 values; found 6"),
        ([1, 2, 2], "never grow, .*; found 2 at step 1"),
    ):
        with pytest.raises(ValueError, match=message):
            torch.ops.tidegate.crf_viterbi(*model, torch.tensor(sizes), 2)
    with pytest.raises(ValueError, match="never grow, from no more than the rows; found 2 at step 0"):
        torch.ops.tidegate.crf_forward(*model, None, case.ragged.batch_sizes, 1, False)
