"""Ragged batches with the lengths of IMDb's reviews: a training step beside torch.nn.GRU on a PackedSequence.

    python benchmarks/ragged_imdb.py [--json FILE] [--threads 2 1] [--directions 1 2]
    TIDEGATE_DATA=FOLDER python benchmarks/ragged_imdb.py --write-lengths

A GRU of 128 units and inputs, batches of 64 rows: bucketed as the loader's LengthBucketedSampler makes them, or drawn
at random. The lengths are tokens of the 25,000 training reviews (Maas et al. 2011) under the tokenizer `words`: the
reviews' own where TIDEGATE_DATA names a folder with imdb/train.jsonl.gz, else drawn evenly from the quantiles in
imdb_lengths.json, which --write-lengths makes from them; cut to 400 tokens as the recipe imdb does, or whole. One call
is a training step on each of two batches, with the gradients of values and parameters; layouts and PackedSequences are
made beforehand, and outputs are compared before anything is timed. torch.nn takes seconds a batch, since for each step
its backward pass adds a tensor of the size of all values; so it has as many turns as fit into 30 seconds, three at the
least, and none with whole reviews.

The padding-free ideal is our own time for full batches of as many rows and as many steps in all (every row as long as
the batch's mean): the FLOPs of the real tokens at the rate of full batches.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from bars import at_least, at_most, verdict
from peers import check_equal, gradients, layers
from side_by_side import Record, alternate, arguments
from tidegate.data.batch import LengthBucketedSampler
from tidegate.data.encoder import TextEncoder
from tidegate.kernels.ragged import ragged_from_lengths

TABLE = Path(__file__).with_name("imdb_lengths.json")
ROWS, HIDDEN = 64, 128
NUM_BATCHES = 2
TORCH_SECONDS = 30


def real_lengths(folder: Path) -> np.ndarray:
    """Tokens of each training review."""
    with gzip.open(folder / "imdb" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    encoder = TextEncoder.fit(texts[:100], tokenizer="words")  # its vocabulary does not matter here
    return np.array([len(encoder.tokenize(text)) for text in texts])


def write_lengths(folder: Path) -> None:
    lengths = real_lengths(folder)
    quantiles = np.quantile(lengths, np.linspace(0, 1, 401)).round().astype(int).tolist()
    source = (
        "Tokens a review under tidegate's tokenizer `words`, the 25,000 training reviews of the Large Movie Review "
        "Dataset (Maas et al. 2011, aclImdb v1.0): 401 evenly spaced quantiles, from the shortest to the longest."
    )
    TABLE.write_text(json.dumps({"source": source, "reviews": len(lengths), "quantiles": quantiles}) + "\n")
    print(f"written to {TABLE}: {len(lengths)} reviews, mean length {lengths.mean():.1f}")


def load_lengths() -> tuple[np.ndarray, str]:
    """The lengths and where they come from."""
    folder = os.environ.get("TIDEGATE_DATA")
    if folder:
        return real_lengths(Path(folder)), "reviews"
    table = json.loads(TABLE.read_text())
    places = np.linspace(0, len(table["quantiles"]) - 1, table["reviews"])
    return np.interp(places, np.arange(len(table["quantiles"])), table["quantiles"]).astype(int), "quantiles"


def batches(lengths: np.ndarray, bucketed: bool) -> list[np.ndarray]:
    """Lengths of some batches of an epoch, spread over all lengths: the short ones and the long ones."""
    if bucketed:
        epoch = LengthBucketedSampler(lengths, ROWS, random_state=0).batches(0)
        full = sorted((lengths[rows] for rows in epoch if len(rows) == ROWS), key=np.mean)
        places = ((np.arange(NUM_BATCHES) + 0.5) * len(full) / NUM_BATCHES).astype(int)
        return [full[place] for place in places]
    shuffled = np.random.default_rng(0).permutation(lengths)
    return [shuffled[start : start + ROWS] for start in range(0, NUM_BATCHES * ROWS, ROWS)]


def measure(
    name: str, lengths: list[np.ndarray], bucketed: bool, with_torch: bool, directions: int, threads: int, repeats: int
) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    ours, theirs = layers("gru", HIDDEN, HIDDEN, directions)
    steps_of: dict[str, list[Any]] = {"tidegate": [], "torch": [], "ideal": []}
    for batch in lengths:
        x = torch.randn(ROWS, int(batch.max()), HIDDEN)
        ragged = ragged_from_lengths(torch.from_numpy(batch))
        packed = pack_padded_sequence(x, torch.from_numpy(batch), batch_first=True, enforce_sorted=False)
        packed = packed._replace(data=packed.data.detach().requires_grad_())
        # The same values in the same order: rows of one length may lie either way round.
        values = packed.data.detach().clone().requires_grad_()
        full = torch.randn(round(batch.mean()), ROWS, HIDDEN).requires_grad_()

        def run_ours(values: Tensor = values, ragged: Any = ragged) -> Tensor:
            return ours.forward_ragged(values, ragged)[0]

        def run_theirs(packed: Any = packed) -> Tensor:
            return theirs(packed)[0].data

        def run_full(full: Tensor = full) -> Tensor:
            return ours(full)[0]

        steps_of["tidegate"].append(gradients(run_ours, [values, *ours.parameters()]))
        if with_torch:
            steps_of["torch"].append(gradients(run_theirs, [packed.data, *theirs.parameters()]))
            check_equal([run_ours()], [run_theirs()], tolerance=1e-4)
        steps_of["ideal"].append(gradients(run_full, [full, *ours.parameters()]))
    calls = {name: (lambda steps=steps: [step() for step in steps]) for name, steps in steps_of.items() if steps}
    seconds = alternate(calls, repeats, max_seconds=TORCH_SECONDS)
    # Full batches have rounded lengths.
    tokens = sum(int(batch.sum()) for batch in lengths)
    ideal = seconds["ideal"] * tokens / sum(ROWS * round(batch.mean()) for batch in lengths)
    padded = sum(ROWS * int(batch.max()) for batch in lengths)
    over = seconds["tidegate"] / ideal
    kind = "bucketed" if bucketed else "unbucketed"
    row: dict[str, Any] = {
        "name": name,
        "bucketed": bucketed,
        "directions": directions,
        "threads": threads,
        "mean_length": round(tokens / (ROWS * len(lengths)), 1),
        "padding": round(1 - tokens / padded, 4),
        "tidegate_ms": round(seconds["tidegate"] * 1e3, 3),
        "ideal_ms": round(ideal * 1e3, 3),
        "over_ideal": round(over, 4),
        "bars": [at_most(f"ragged, {kind}: times the padding-free ideal", over, 1.1 if bucketed else 1.4)],
    }
    if with_torch:
        ratio = seconds["torch"] / seconds["tidegate"]
        row |= {"torch_packed_ms": round(seconds["torch"] * 1e3, 3), "ratio": round(ratio, 3)}
        row["bars"].append(at_least(f"ragged, {kind}: times torch.nn on a PackedSequence", ratio, 1.5))
    return row


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--write-lengths", action="store_true", help=f"make {TABLE.name} from the reviews, and end")
    parser.add_argument("--directions", type=int, nargs="+", default=[1], choices=[1, 2])
    given = parser.parse_args()
    if given.write_lengths:
        if "TIDEGATE_DATA" not in os.environ:
            raise SystemExit("expected TIDEGATE_DATA to name the folder that holds imdb/train.jsonl.gz; it is not set")
        write_lengths(Path(os.environ["TIDEGATE_DATA"]))
        return
    lengths, source = load_lengths()
    print(f"lengths from the {source}, mean {lengths.mean():.1f}, longest {lengths.max()}")
    record = Record(given.json, given.repeats)
    record.record["lengths"] = source
    for threads in given.threads:
        for limit in (400, None):
            of_rows = lengths if limit is None else lengths.clip(max=limit)
            for bucketed in (True, False):
                for directions in given.directions:
                    kind = "bucketed" if bucketed else "unbucketed"
                    name = f"{kind}, {'whole' if limit is None else f'cut to {limit}'}"
                    name += f"{', two' if directions == 2 else ''}, {threads} thread{'s' if threads > 1 else ''}"
                    if given.only and given.only not in name:
                        continue
                    chosen = batches(of_rows, bucketed)
                    row = measure(name, chosen, bucketed, limit is not None, directions, threads, given.repeats)
                    record.add(row)
                    print(f"{name:44} {row['tidegate_ms']:9.2f} ms  {verdict(row['bars'])}", flush=True)
    record.finish()


if __name__ == "__main__":
    main()
