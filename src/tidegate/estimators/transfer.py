"""The weights of another model as a beginning: its tokens' vectors by their names, its encoder as it is."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from tidegate.data.encoder import TextEncoder
from tidegate.deploy.bundle import load_bundle
from tidegate.errors import BundleError
from tidegate.heads.sequence import SequenceNetwork

__all__ = ["start_from_bundle"]


def start_from_bundle(network: SequenceNetwork, tokens: tuple[str, ...], path: str | os.PathLike[str]) -> str:
    """Put the weights of a saved model under a network's head.

    Tokens that both vocabularies have take over their vector, others begin at the mean of all (Howard & Ruder 2018).
    The encoder, and the attention where both have it, must be of the same shape. The head begins anew.

    Args:
        network: What starts.
        tokens: Its vocabulary.
        path: A ``.tg`` file of a model with a network over texts.

    Returns:
        One sentence on what was taken.

    Raises:
        BundleError: The file cannot be read, or its network has another architecture; the message says in what.
    """
    bundle = load_bundle(path)
    weights = bundle.weights
    if "embedding.weight" not in weights or not any(name.startswith("encoder.") for name in weights):
        raise BundleError(f"{path}: expected a model with an embedding and an encoder; found {bundle.kind!r}")
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("head.")}
    shared = {name: shape for name, shape in own.items() if name.startswith("encoder.")}
    if "attention.query.weight" in weights:
        shared |= {name: tensor for name, tensor in own.items() if name.startswith("attention.")}
    theirs = {name: array for name, array in weights.items() if name.startswith("encoder.")}
    wrong = [f"no {name}" for name in shared if name not in weights]
    wrong += [f"{name} as well" for name in theirs if name not in shared]
    wrong += [
        f"{name} of shape {weights[name].shape} where this one has {tuple(tensor.shape)}"
        for name, tensor in shared.items()
        if name in weights and weights[name].shape != tuple(tensor.shape)
    ]
    size = weights["embedding.weight"].shape[1]
    if size != own["embedding.weight"].shape[1]:
        wrong.append(f"vectors of {size} features where this one has {own['embedding.weight'].shape[1]}")
    if wrong:
        raise BundleError(
            f"{path}: this model has another architecture: {'; '.join(wrong[:4])}"
            f"{' and more' if len(wrong) > 4 else ''}. Set cell, hidden_size, num_layers, bidirectional and "
            "embedding_size to those it was trained with"
        )
    index = TextEncoder.from_dict(bundle.tokenizer).vocabulary.index
    table = weights["embedding.weight"]
    rows = np.array([index.get(token, -1) for token in tokens], dtype=np.int64)
    rows[0] = 0  # the unknown token is that of both
    vectors = np.where(rows[:, None] >= 0, table[np.maximum(rows, 0)], table.mean(0))
    taken = {name: torch.from_numpy(weights[name].copy()) for name in shared}
    with torch.no_grad():
        network.embedding.weight.copy_(torch.from_numpy(np.ascontiguousarray(vectors)))
        nn.Module.load_state_dict(network, taken, strict=False)
    known = int((rows >= 0).sum())
    return f"started from {path}: {known:,} of {len(tokens):,} tokens and {len(taken)} weights of its encoder"
