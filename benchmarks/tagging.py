"""Words a second of a BiLSTM-CRF tagger beside plain PyTorch: torch.nn.LSTM on packed sequences and pytorch-crf.

    TIDEGATE_DATA=FOLDER python benchmarks/tagging.py [--json FILE] [--threads 2 1]

The same architecture on both sides, with the same weights, in the sizes of Lample et al. 2016 and of NCRF++: words of
100 features, a convolution of 50 filters over the characters of each word, a bidirectional LSTM of 100 units a
direction, a CRF over the 17 tags of names in BIOES. The sentences are those of conll2003/eng.testb.gz in the folder
that TIDEGATE_DATA names, else lines of the People's Daily that ship, with drawn tags. A call of training takes encoded
sentences through 16 batches of 16: making the batch, loss, backward and a step of AdamW. A call of prediction takes
1,024 sentences from tokens to tags: ids, batches (of 64 sentences of like length, with which PyTorch is at its best;
ours are its own), forward, Viterbi. Emissions, losses and tags are compared before anything is timed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchcrf
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from bars import at_least, verdict
from side_by_side import Record, alternate, arguments
from tidegate.data.batch import LengthBucketedSampler
from tidegate.data.tag_schemes import convert_tags, full_tags
from tidegate.data.tagged import read_tagged
from tidegate.data.tagging_batch import make_tagging_batch
from tidegate.data.token_encoder import EncodedSentences, TokenEncoder
from tidegate.estimators.tag_decoding import TagDecoder
from tidegate.heads.tag import TaggingNetwork
from tidegate.jobs.tagging_data import read_bundled
from tidegate.kernels.ragged import to_batch_major

WORD, CHARACTER, FILTERS, HIDDEN = 100, 30, 50, 100
BATCHES, SENTENCES = 16, 1024


def load() -> tuple[str, list[list[str]], list[list[str]]]:
    """Sentences, their tags in BIOES, and where they come from."""
    folder = os.environ.get("TIDEGATE_DATA")
    if folder:
        examples = read_tagged(Path(folder) / "conll2003" / "eng.testb.gz")
        tags = [convert_tags(row, "iob1", "bioes") for row in examples.tags or []]
        return "conll2003", examples.sentences, tags
    examples = read_bundled("people_daily", "test")
    names = [f"{letter}-{kind}" for kind in ("A", "B", "C", "D") for letter in "BIES"]
    drawn = np.random.default_rng(0)
    tags = [["O", *drawn.choice(names, len(row))][: len(row)] for row in examples.sentences]
    return "people_daily", examples.sentences, tags


class Plain(nn.Module):
    """The network as one writes it in PyTorch: padded words and characters, a packed LSTM, pytorch-crf."""

    def __init__(self, ours: TaggingNetwork) -> None:
        super().__init__()
        assert ours.characters is not None
        assert ours.characters.filters is not None
        assert ours.head.crf is not None
        rows, size = ours.words.weight.shape
        self.words = nn.Embedding(rows, size)
        letters = ours.characters.weight.shape[0]
        self.letters = nn.Embedding(letters + 1, CHARACTER, padding_idx=letters)
        self.filters = nn.Conv1d(CHARACTER, FILTERS, 3)
        self.lstm = nn.LSTM(WORD + FILTERS, HIDDEN, batch_first=True, bidirectional=True)
        self.projection = nn.Linear(2 * HIDDEN, ours.head.num_tags)
        self.crf = torchcrf.CRF(ours.head.num_tags, batch_first=True)
        with torch.no_grad():
            self.words.weight.copy_(ours.words.weight)
            self.letters.weight[:-1].copy_(ours.characters.weight)
            self.filters.weight.copy_(ours.characters.filters.weight.view(FILTERS, 3, CHARACTER).transpose(1, 2))
            self.filters.bias.copy_(ours.characters.filters.bias)  # pyright: ignore
        (layer,) = ours.encoder.layers
        self.lstm.load_state_dict(layer.state_dict())
        self.projection.load_state_dict(ours.head.projection.state_dict())
        self.crf.load_state_dict(ours.head.crf.state_dict())

    def forward(self, words: Tensor, letters: Tensor, sizes: Tensor, lengths: Tensor) -> Tensor:
        """Words [B, T], framed characters [B, T, L], characters of each word [B, T] -> emissions [B, T, K]."""
        rows, steps, width = letters.shape
        found = self.filters(self.letters(letters.view(rows * steps, width)).transpose(1, 2))
        beyond = torch.arange(found.shape[2]) >= sizes.view(-1, 1)
        spelled = found.masked_fill(beyond[:, None], -torch.inf).amax(2).view(rows, steps, FILTERS)
        spelled = spelled.masked_fill((sizes == 0)[:, :, None], 0.0)
        values = torch.cat([self.words(words), spelled], 2)
        packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        return self.projection(pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0])


class PlainData:
    """Tensors of each sentence, padded together batch by batch."""

    def __init__(self, encoded: EncodedSentences, tags: list[np.ndarray], num_letters: int) -> None:
        first, last = num_letters, num_letters + 1
        framed = [
            torch.tensor([first, *encoded.characters[encoded.starts[form] : encoded.starts[form + 1]].tolist(), last])
            for form in range(len(encoded.words))
        ]
        self.padding = num_letters + 2
        self.words = [torch.from_numpy(encoded.words[forms]) for forms in encoded.forms]
        self.tags = [torch.from_numpy(row) for row in tags]
        self.letters = [[framed[form] for form in forms] for forms in encoded.forms]

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        words = pad_sequence([self.words[row] for row in rows], batch_first=True)
        lengths = torch.tensor([len(self.words[row]) for row in rows])
        mask = torch.arange(words.shape[1]) < lengths[:, None]
        spelled = pad_sequence(
            [word for row in rows for word in self.letters[row]], batch_first=True, padding_value=self.padding
        )
        letters = spelled.new_full((*words.shape, spelled.shape[1]), self.padding)
        letters[mask] = spelled
        sizes = torch.zeros_like(words)
        sizes[mask] = torch.tensor([len(word) - 2 for row in rows for word in self.letters[row]])
        tags = pad_sequence([self.tags[row] for row in rows], batch_first=True)
        return words, letters, sizes, lengths, mask, tags


def measure(
    name: str, source: str, sentences: list[list[str]], tags: list[list[str]], train: bool, threads: int, repeats: int
) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    encoder = TokenEncoder.fit(
        sentences, lowercase=True, replace_digits=False, max_vocabulary=50000, min_count=1, use_bigrams=False
    )
    names = full_tags((tag for row in tags for tag in row), "bioes")
    numbers = [np.array([names.index(tag) for tag in row]) for row in tags]
    encoded = encoder.encode(sentences)
    ours = TaggingNetwork(
        num_words=len(encoder.words),
        num_extra_words=0,
        num_characters=len(encoder.characters),
        num_cases=0,
        num_bigrams=0,
        num_tags=len(names),
        num_intents=0,
        cell="lstm",
        embedding_size=WORD,
        char_encoder="cnn",
        char_embedding_size=CHARACTER,
        char_hidden_size=FILTERS,
        bigram_embedding_size=0,
        hidden_size=HIDDEN,
        num_layers=1,
        bidirectional=True,
        output_layer="crf",
        dropout=0.0,
        embedding_dropout=0.0,
        word_dropout=0.0,
    )
    plain = Plain(ours)
    letters = len(encoder.characters)
    data = PlainData(encoded, numbers, letters)
    sampler = LengthBucketedSampler(encoded.lengths, 16, random_state=0)
    batches = sampler.batches(0)[:BATCHES]
    chosen = sentences[:SENTENCES]
    words = int(encoded.lengths[np.concatenate(batches) if train else np.arange(len(chosen))].sum())
    check(ours, plain, encoded, numbers, data, batches[0])
    optimizers = [torch.optim.AdamW(net.parameters(), 1e-3, fused=True) for net in (ours, plain)]

    def train_ours() -> None:
        for rows in batches:
            total, count = ours.loss(make_tagging_batch(encoded, rows, numbers))
            optimizers[0].zero_grad()
            (total / count).backward()
            optimizers[0].step()

    def train_plain() -> None:
        for rows in batches:
            *inputs, mask, gold = data.batch(rows)
            loss = -plain.crf(plain(*inputs), gold, mask, reduction="mean")
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()

    decoder = TagDecoder(ours, encoder, "cpu", None)

    def predict_ours() -> list[list[int]]:
        return [row.tolist() for row in decoder.best(chosen)]

    @torch.inference_mode()
    def predict_plain() -> list[list[int]]:
        fresh = PlainData(encoder.encode(chosen), [np.zeros(len(row), np.int64) for row in chosen], letters)
        found: list[list[int]] = [[]] * len(chosen)
        order = np.argsort([len(row) for row in chosen], kind="stable")
        for start in range(0, len(chosen), 64):
            rows = order[start : start + 64]
            *inputs, mask, _ = fresh.batch(rows)
            for row, tags in zip(rows, plain.crf.decode(plain(*inputs), mask), strict=True):
                found[row] = tags
        return found

    if train:
        ours.train(), plain.train()
        seconds = alternate({"tidegate": train_ours, "torch": train_plain}, repeats, max_seconds=120)
    else:
        ours.eval(), plain.eval()
        same = [a == b for a, b in zip(predict_ours(), predict_plain(), strict=True)]
        if np.mean(same) < 0.99:  # sums in another order may turn a tie
            raise SystemExit(f"the two tag differently: {np.mean(same):.3f} of the sentences are equal")
        seconds = alternate({"tidegate": predict_ours, "torch": predict_plain}, repeats, max_seconds=120)
    ratio = seconds["torch"] / seconds["tidegate"]
    what = "training" if train else "prediction"
    return {
        "name": name,
        "data": source,
        "threads": threads,
        "words": words,
        "tidegate_words_per_second": round(words / seconds["tidegate"]),
        "torch_words_per_second": round(words / seconds["torch"]),
        "ratio": round(ratio, 3),
        "bars": [at_least(f"tagging, {what}: times torch.nn.LSTM and pytorch-crf", ratio, 2 if train else 3)],
    }


def check(
    ours: TaggingNetwork,
    plain: Plain,
    encoded: EncodedSentences,
    tags: list[np.ndarray],
    data: PlainData,
    rows: np.ndarray,
) -> None:
    """The same weights give the same emissions and the same loss on both sides."""
    batch = make_tagging_batch(encoded, rows, tags)
    *inputs, mask, gold = data.batch(rows)
    emissions = plain(*inputs)
    torch.testing.assert_close(to_batch_major(ours(batch)[0], batch.ragged), emissions[mask], atol=1e-4, rtol=1e-4)
    theirs = -plain.crf(emissions, gold, mask, reduction="sum")
    torch.testing.assert_close(ours.loss(batch)[0], theirs, atol=1e-2, rtol=1e-4)


def main() -> None:
    options = arguments(__doc__).parse_args()
    record = Record(options.json, options.repeats)
    source, sentences, tags = load()
    for threads in options.threads:
        for what in ("training", "prediction"):
            name = f"{what}, {threads} thread{'s' * (threads > 1)}"
            if options.only and options.only not in name:
                continue
            row = measure(name, source, sentences, tags, what == "training", threads, options.repeats)
            record.add(row)
            print(
                f"{name}: tidegate {row['tidegate_words_per_second']:,} words/s, torch "
                f"{row['torch_words_per_second']:,}; {verdict(row['bars'])}"
            )
    record.finish()


if __name__ == "__main__":
    main()
