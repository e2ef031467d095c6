from __future__ import annotations

import torch

from tidegate.layers.pairs import combine_pairs


def test_each_row_is_both_vectors_their_distance_and_product() -> None:
    vectors = torch.tensor([[1.0, -2.0], [0.0, 3.0], [4.0, 5.0], [-1.0, 3.0]], dtype=torch.float64, requires_grad=True)
    expected = torch.tensor(
        [[1.0, -2, 4, 5, 3, 7, 4, -10], [0.0, 3, -1, 3, 1, 0, 0, 9]],
        dtype=torch.float64,
    )
    assert torch.equal(combine_pairs(vectors), expected)
    apart = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(combine_pairs, (apart,))
