"""The definition of truth for the conditional random field: plain PyTorch in log space, on any device.

Differentiable twice. Scores may be minus infinity, in which case neither values nor gradients become NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["best_paths", "k_best_paths", "likelihood_steps", "marginal_steps"]


def _logsumexp(x: Tensor, dim: int) -> Tensor:
    """Like torch's, with gradients of zero instead of NaN where every term is minus infinity."""
    maximum = x.detach().amax(dim, keepdim=True).clamp(min=torch.finfo(x.dtype).min)
    total = (x - maximum).exp().sum(dim)
    empty = total == 0
    return torch.where(empty, -math.inf, torch.where(empty, 1.0, total).log() + maximum.squeeze(dim))


def log_partition_steps(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int
) -> Tensor:
    """The forward algorithm: ``[B]`` in sorted order; 0 for a row of length zero."""
    steps = emissions.split(batch_sizes.tolist())
    if not steps:
        return emissions.sum().expand(rows)  # zeros that autograd knows
    alpha = start + steps[0]
    for emission in steps[1:]:
        alive = emission.shape[0]
        reached = _logsumexp(alpha[:alive, :, None] + transitions, dim=1) + emission
        alpha = torch.cat([reached, alpha[alive:]])
    return torch.cat([_logsumexp(alpha + end, dim=1), emissions.new_zeros(rows - alpha.shape[0])])


def path_score_steps(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, tags: Tensor, batch_sizes: Tensor, rows: int
) -> Tensor:
    """The scores of the given paths: ``[B]`` in sorted order; 0 for a row of length zero."""
    sizes = batch_sizes.tolist()
    places = zip(emissions.split(sizes), tags.split(sizes), strict=True)
    score, last = emissions.new_zeros(rows), tags.new_zeros(0)
    for t, (emission, tag) in enumerate(places):
        alive = tag.shape[0]
        entered = start[tag] if t == 0 else transitions[last[:alive], tag]
        gained = entered + emission.gather(1, tag[:, None]).squeeze(1)
        score = torch.cat([score[:alive] + gained, score[alive:]])
        last = torch.cat([tag, last[alive:]])
    return torch.cat([score[: last.shape[0]] + end[last], score[last.shape[0] :]])


def likelihood_steps(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    tags: Tensor | None,
    batch_sizes: Tensor,
    rows: int,
) -> Tensor:
    """``[B]``: the log-likelihood of the tags, or without tags the log-partition.

    Minus infinity for a row whose own path is forbidden, or for all of whose paths are; its gradient is zero.
    """
    log_partition = log_partition_steps(emissions, transitions, start, end, batch_sizes, rows)
    if tags is None:
        return log_partition
    score = path_score_steps(emissions, transitions, start, end, tags, batch_sizes, rows)
    return torch.where(torch.isneginf(score), -math.inf, score - log_partition)


def marginal_steps(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int
) -> Tensor:
    """``[N, K]``: the probability of each tag at each step, as the derivative of the log-partition by the emission."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        if not (differentiable and emissions.requires_grad):
            emissions = emissions.detach().requires_grad_()
        log_partition = log_partition_steps(emissions, transitions, start, end, batch_sizes, rows)
        (marginals,) = torch.autograd.grad(
            log_partition.sum(), emissions, create_graph=differentiable, allow_unused=True, materialize_grads=True
        )
    return marginals


def _less_maximum(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of a row less their largest, as the kernel keeps them, and the largest, float64."""
    maximum = scores.amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    return scores - maximum, maximum.squeeze(-1).double()


def best_paths(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int
) -> tuple[Tensor, Tensor]:
    """The algorithm of Viterbi: ``tags [N]`` and ``scores [B]`` in sorted order; among equals the lowest tag."""
    tags, scores = k_best_paths(emissions, transitions, start, end, batch_sizes, rows, 1)
    return tags.squeeze(1), scores.squeeze(1)


def k_best_paths(
    emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, batch_sizes: Tensor, rows: int, k: int
) -> tuple[Tensor, Tensor]:
    """The k best paths: ``tags [N, k]`` and ``scores [B, k]`` in sorted order; -1 and minus infinity beyond the last.

    Every tag keeps the k best paths that end in it; among equals the lower previous tag and its better path.
    """
    num_tags = transitions.shape[0]
    sizes = batch_sizes.tolist()
    places = [emissions.new_full((size, k), -1, dtype=torch.int64) for size in sizes]
    scores = emissions.new_full((rows, k), -math.inf)
    scores[sizes[0] if sizes else 0 :, 0] = 0
    steps = emissions.split(sizes)
    back: list[Tensor] = []
    beam, scale = emissions.new_zeros(0, num_tags, k), emissions.new_zeros(0, dtype=torch.float64)
    for t, emission in enumerate(steps):
        alive = emission.shape[0]
        if t == 0:
            beam = emissions.new_full((alive, num_tags, k), -math.inf)
            beam[:, :, 0] = start + emission
            scale = scale.new_zeros(alive)
        else:
            best, place = _merge(beam[:alive], transitions.t())
            back.append(place)
            beam = best + emission[:, :, None]
        flat, maximum = _less_maximum(beam.flatten(1))
        beam, scale = flat.unflatten(1, (num_tags, k)), scale[:alive] + maximum
        ending = slice(sizes[t + 1] if t + 1 < len(sizes) else 0, alive)
        if ending.start < alive:
            last, place = _merge(beam[ending], end[None])
            scores[ending] = (scale[ending, None] + last[:, 0].double()).to(scores.dtype)
            _walk_back(places, back, place[:, 0], ending, t, k)
    tags = torch.cat([emissions.new_empty(0, k, dtype=torch.int64), *places])
    return torch.where(tags < 0, -1, tags.div(k, rounding_mode="floor")), scores


def _merge(beam: Tensor, more: Tensor) -> tuple[Tensor, Tensor]:
    """The k best of ``beam [R, I, k] + more [J, I]`` for each J, ``[R, J, k]``, and their places; -1 where none is."""
    k = beam.shape[2]
    candidates = (beam[:, None] + more[None, :, :, None]).flatten(2)
    best, place = candidates.sort(dim=2, descending=True, stable=True)
    best, place = best[:, :, :k], place[:, :, :k]
    return best, torch.where(torch.isneginf(best), -1, place)


def _walk_back(places: list[Tensor], back: list[Tensor], place: Tensor, rows: slice, t: int, k: int) -> None:
    """Write the places of the paths that end at step t with ``place [R, k]`` into those of every step."""
    for step in range(t, -1, -1):
        places[step][rows] = place
        if step > 0:
            before = back[step - 1][rows].flatten(1).gather(1, place.clamp(min=0))
            place = torch.where(place < 0, -1, before)
