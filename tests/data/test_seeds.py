from __future__ import annotations

from tidegate.data.seeds import derive_seed


def test_seeds_are_the_same_in_every_process():
    assert derive_seed(0, "sampler") == derive_seed(0, "sampler", 0, 0)
    assert derive_seed(7, "dropout", 3, 11) == 9200603837118110829


def test_seeds_differ_by_each_part_of_the_place():
    places = [
        (state, stream, epoch, step)
        for state in (0, 1, 11)
        for stream in ("a", "b", "a1")
        for epoch in (0, 1, 11)
        for step in (0, 1, 11)
    ]
    seeds = {derive_seed(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
