"""Pairs of texts: do two halves come from one review? Accuracy over seeds, beside chance and the TF-IDF baseline.

python benchmarks/pairs.py zh [--seeds 0 1 2] [--set KEY=VALUE ...] [--make-only FOLDER] [--json FILE]

Every bundled review that is long enough is cut in its middle. Its halves are one pair, and its first half with the
second half of another review of the same part is another one, so that neither half by itself says anything and half of
the pairs are right by chance. Train, validation and test are those of the reviews, so that no review is in two of them.
"""

from __future__ import annotations

import argparse
import csv
import logging
import random
import statistics
import tempfile
from pathlib import Path

from accuracy import train_seeds
from side_by_side import machine, write_json
from tidegate.data.bundled import load_reviews

_LEAST = 16  # characters of Chinese, words of English, of a review that is cut
_MARKS = "，。！？；,.!?; "
RECIPE = """\
# Do two halves come from one bundled review? Made by benchmarks/pairs.py, which says how.

task: text-classification

data:
  train: train.tsv
  validation: validation.tsv
  test: test.tsv
  text: [first, second]             # two columns: each row is a pair

text:
  tokenizer: {tokenizer}
  min_count: 2
  max_tokens: 128

model:
  cell: gru
  bidirectional: true
  hidden_size: 64
  embedding_size: 64
  pooling: max
  embedding_dropout: 0.3
  dropout: 0.3

training:
  learning_rate: 1e-3
  batch_size: 64
  max_epochs: 12
  patience: 3

output:
  title: Do two halves come from one review?
  baseline: true
"""


def halves(text: str, language: str) -> tuple[str, str] | None:
    """A review cut near its middle, in Chinese at a mark or else at a character, in English between words."""
    text = " ".join(text.split())
    if language == "en":
        words = text.split()
        middle = len(words) // 2
        return None if len(words) < _LEAST else (" ".join(words[:middle]), " ".join(words[middle:]))
    if len(text) < _LEAST:
        return None
    middle = len(text) // 2
    near = [place + 1 for place in range(len(text) // 4, 3 * len(text) // 4) if text[place] in _MARKS]
    place = min(near, key=lambda place: abs(place - middle), default=middle)
    first, second = text[:place].strip(_MARKS), text[place:].strip(_MARKS)
    return (first, second) if first and second else None


def make_pairs(texts: list[str], language: str, seed: int) -> list[tuple[str, str, str]]:
    """Label, first and second text: of each review its own halves, and its first half with another one's second."""
    cut = [found for text in texts if (found := halves(text, language)) is not None]
    drawn = random.Random(seed)
    order = list(range(len(cut)))
    drawn.shuffle(order)
    others = dict(zip(order, [*order[1:], order[0]], strict=True))  # a ring, in which none is its own other
    rows = [("one", *pair) for pair in cut]
    rows += [("two", cut[place][0], cut[other][1]) for place, other in others.items()]
    drawn.shuffle(rows)
    return rows


def write_pairs(folder: Path, language: str) -> Path:
    """The three files and the recipe; the path of the recipe."""
    for seed, part in enumerate(("train", "validation", "test")):
        with open(folder / f"{part}.tsv", "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
            writer.writerow(["label", "first", "second"])
            writer.writerows(make_pairs(load_reviews(language, part).texts, language, seed))
    recipe = folder / f"pairs_{language}.yaml"
    recipe.write_text(RECIPE.format(tokenizer="characters" if language == "zh" else "words"), encoding="utf-8")
    return recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", choices=("zh", "en"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--make-only", type=Path, metavar="FOLDER", help="write the files and the recipe, and stop")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.make_only is not None:
        options.make_only.mkdir(parents=True, exist_ok=True)
        print(write_pairs(options.make_only, options.language))
        return
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("tidegate").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        recipe = write_pairs(Path(folder), options.language)
        rows, baseline = train_seeds(str(recipe), options.seeds, options.overrides)
    accuracies = [row["test_accuracy"] for row in rows]
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"halves, {options.language}: mean test accuracy {mean:.4f}, standard deviation {spread:.4f}, chance 0.5000")
    if baseline is not None:
        print(f"baseline {baseline['accuracy']:.4f}: {baseline['name']}")
    if options.json is not None:
        own = {"language": options.language, "overrides": options.overrides, "mean_test_accuracy": mean}
        record = {**own, "standard_deviation": spread, "baseline": baseline, "runs": rows, "machine": machine()}
        write_json(str(options.json), record)


if __name__ == "__main__":
    main()
