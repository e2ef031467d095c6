"""Reading word vectors for a vocabulary: 100,000 vectors in GloVe's text, 20,000 words wanted; beside gensim.

python benchmarks/reading_vectors.py [--words 100000] [--wanted 20000] [--size 50] [--json FILE]

The vectors are drawn; the words wanted are spread over the file. gensim reads the whole file first, as its users do.
The figure goes into the record of docs/features.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from side_by_side import RESULTS, alternate, machine, write_json
from tidegate.features.vectors import token_vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=100_000)
    parser.add_argument("--wanted", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", default=str(RESULTS / "features.json"))
    arguments = parser.parse_args()
    from gensim.models import KeyedVectors

    drawn = np.random.default_rng(0).normal(size=(arguments.words, arguments.size)).round(5)
    step = arguments.words // arguments.wanted
    tokens = ["<unk>", *(f"word{number}" for number in range(0, arguments.wanted * step, step))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.txt"
        with open(file, "w", encoding="utf-8") as stream:
            for number, row in enumerate(drawn):
                stream.write(f"word{number} {' '.join(map(str, row))}\n")

        def ours() -> np.ndarray:
            return token_vectors(tokens, str(file)).vectors[1:]

        def theirs() -> np.ndarray:
            found = KeyedVectors.load_word2vec_format(file, binary=False, no_header=True)
            return np.stack([found[token] for token in tokens[1:]])

        np.testing.assert_allclose(ours(), theirs(), rtol=1e-6)
        seconds = alternate({"tidegate": ours, "gensim": theirs}, arguments.repeats)
    row = {"words": arguments.words, "wanted": arguments.wanted, "size": arguments.size, **seconds}
    print(row)
    record = json.loads(Path(arguments.json).read_text(encoding="utf-8"))
    write_json(arguments.json, {**record, "reading": {**row, "machine": machine()}})


if __name__ == "__main__":
    main()
