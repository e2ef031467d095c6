"""What the tests of the CRF share: random cases, closeness, and the oracle that enumerates all paths."""

from __future__ import annotations

import itertools
import math

import torch

from tidegate.kernels import crf
from tidegate.kernels.ragged import Ragged, from_batch_major, ragged_from_lengths, to_batch_major

BACKENDS = ["native", "reference"]
LENGTHS = {
    "one": [1],
    "ragged": [5, 3, 5, 0, 1, 9, 2, 2, 7, 4, 3],
    "full": [6] * 17,
    "empty": [0, 0],
    "long": [40],
    "many": [int(n) for n in torch.randint(0, 12, (41,), generator=torch.Generator().manual_seed(3))],
}
# What forbids, for three tags and more; every row still has a path.
FORBIDDEN = {"transitions": [(0, 1), (1, 1)], "start": [1], "end": [0]}


class Case:
    """Random emissions, scores, tags and weights of the rows."""

    def __init__(self, lengths, num_tags, dtype=torch.float64, scale=1.5, whole=False, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            values = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
            return (values.round() if whole else values).to(dtype).requires_grad_()

        self.lengths = lengths
        self.ragged: Ragged = ragged_from_lengths(lengths)
        self.emissions = draw(self.ragged.num_values, num_tags)
        self.transitions, self.start, self.end = draw(num_tags, num_tags), draw(num_tags), draw(num_tags)
        self.tags = torch.randint(0, num_tags, (self.ragged.num_values,), generator=generator)
        self.weights = draw(len(lengths)).detach()

    @property
    def leaves(self):
        return [self.emissions, self.transitions, self.start, self.end]

    def forbid(self, transitions=(), start=(), end=()):
        """Set scores to minus infinity."""
        with torch.no_grad():
            for i, j in transitions:
                self.transitions[i, j] = -math.inf
            self.start[list(start)] = -math.inf
            self.end[list(end)] = -math.inf
        return self

    def values(self, backend):
        """Log-likelihood, log-partition, marginals, and the gradients of the first two."""
        found = []
        for value in (
            crf.log_likelihood(self.emissions, self.tags, *self.leaves[1:], self.ragged, backend=backend),
            crf.log_partition(*self.leaves, self.ragged, backend=backend),
        ):
            finite = torch.where(torch.isneginf(value), 0.0, value)
            grads = torch.autograd.grad((finite * self.weights).sum(), self.leaves, materialize_grads=True)
            found += [value.detach(), *grads]
        return [*found, crf.marginals(*(leaf.detach() for leaf in self.leaves), self.ragged, backend=backend)]

    def to(self, dtype, differentiable=True):
        other = object.__new__(Case)
        other.lengths, other.ragged, other.tags = self.lengths, self.ragged, self.tags
        other.emissions, other.transitions, other.start, other.end = (
            leaf.detach().to(dtype).requires_grad_(differentiable) for leaf in self.leaves
        )
        other.weights = self.weights.to(dtype)
        return other


def assert_all_close(found, expected, tolerance):
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape
        assert not torch.isnan(a).any()
        assert torch.equal(torch.isinf(a), torch.isinf(b)), f"tensor {index}"
        a, b = a.double().nan_to_num(posinf=0, neginf=0), b.double().nan_to_num(posinf=0, neginf=0)
        if b.numel():
            error = (a - b).abs().max() / (1 + b.abs().max())
            assert error < tolerance, f"tensor {index} differs by {error:.2e}"


class Enumerated:
    """Every path of every row with its score, by the definition; rows in sorted order, paths best first."""

    def __init__(self, case):
        self.paths, self.scores = [], []
        case = case.to(torch.float64, differentiable=False)
        by_row = to_batch_major(case.emissions, case.ragged).split(case.lengths)
        for row in case.ragged.order.tolist():
            paths = list(itertools.product(range(case.start.shape[0]), repeat=case.lengths[row]))
            scores = [self._score(path, by_row[row], case) for path in paths]
            # Best first; among equals the lowest tag from the last step backwards.
            order = sorted(range(len(paths)), key=lambda i: (-scores[i], paths[i][::-1]))
            order = [i for i in order if scores[i] > -math.inf]
            self.paths.append([paths[i] for i in order])
            self.scores.append(torch.tensor([scores[i] for i in order], dtype=torch.float64))
        self.log_partition = torch.stack([torch.logsumexp(s, 0) for s in self.scores])

    @staticmethod
    def _score(path, emissions, case):
        score = sum(float(emissions[t, tag]) for t, tag in enumerate(path))
        if path:
            score += float(case.start[path[0]]) + float(case.end[path[-1]])
        return score + sum(float(case.transitions[i, j]) for i, j in itertools.pairwise(path))

    def marginals(self, case):
        rows = [torch.zeros(length, case.start.shape[0], dtype=torch.float64) for length in case.lengths]
        for place, row in enumerate(case.ragged.order.tolist()):
            probabilities = (self.scores[place] - self.log_partition[place]).exp()
            for path, probability in zip(self.paths[place], probabilities, strict=True):
                for t, tag in enumerate(path):
                    rows[row][t, tag] += probability
        return from_batch_major(torch.cat(rows), case.ragged)


def tags_of_rows(tags, case):
    """Tags in ragged order as a list of tuples, rows in sorted order."""
    rows = to_batch_major(tags, case.ragged).split(case.lengths)
    return [tuple(rows[row].tolist()) for row in case.ragged.order.tolist()]
