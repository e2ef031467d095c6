from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.data.encoder import TOKENIZER_NAMES, TextEncoder
from tidegate.data.vocabulary import UNKNOWN, Vocabulary
from tidegate.errors import BundleError, DataError, RecipeError

TEXTS = [
    "The film isn't bad: 7/10!<br />The film IS good.",
    "酒店很好，服务很好。",
    "",
    "A <3 film, the best film ＡＢＣ café",
    "酒店不好，the film isn't good",
]


def as_lists(encoded):
    return [ids.tolist() for ids in encoded.ids]


def test_words_by_hand():
    encoder = TextEncoder.fit(["b a b", "a b C", "d"], min_count=2)
    assert encoder.vocabulary.tokens == (UNKNOWN, "b", "a")
    encoded = encoder.encode(["A x B", "", "b"])
    assert as_lists(encoded) == [[2, 0, 1], [], [1]]
    assert [ids.dtype for ids in encoded.ids] == [np.int64] * 3
    assert (encoded.truncated, encoded.longest) == (0, 3)
    assert encoder.num_tokens == 3


@pytest.mark.parametrize(
    ("tokenizer", "tokens"),
    [
        ("words", ["酒", "店", "很", "好", ",", "a", "film"]),
        ("characters", ["酒", "店", "很", "好", ",", "a", " ", "f", "i", "l", "m"]),
        ("jieba", ["酒店", "很", "好", ",", "a", "film"]),
        ("bpe", ["▁酒店很好", ",", "a", "▁film"]),
    ],
)
def test_each_tokenizer_tokenises_chinese_and_english(tokenizer, tokens):
    if tokenizer == "jieba":
        pytest.importorskip("jieba")
    encoder = TextEncoder.fit(TEXTS * 3, tokenizer=tokenizer, min_count=2)
    found = encoder.tokenize("酒店很好，A Film")
    assert found == tokens
    (ids,) = encoder.encode(["酒店很好，A Film"]).ids
    assert encoder.vocabulary.decode(ids.tolist()) == [
        token if token in encoder.vocabulary else UNKNOWN for token in found
    ]


@pytest.mark.parametrize("tokenizer", TOKENIZER_NAMES)
def test_json_and_pickle_give_the_same_encoder(tokenizer):
    if tokenizer == "jieba":
        pytest.importorskip("jieba")
    encoder = TextEncoder.fit(
        TEXTS,
        tokenizer=tokenizer,
        max_tokens=np.int64(4),  # pyright: ignore[reportArgumentType]
        truncation="ends",
        normalization=None,
        lowercase=False,
    )
    ids = as_lists(encoder.encode([*TEXTS, "未知 unknown"]))
    for text in (json.dumps(encoder.to_dict(), sort_keys=True), json.dumps(encoder.to_dict(), ensure_ascii=False)):
        again = TextEncoder.from_dict(json.loads(text))
        assert again == encoder
        assert again.to_dict() == encoder.to_dict()
        assert as_lists(again.encode([*TEXTS, "未知 unknown"])) == ids
    again = pickle.loads(pickle.dumps(encoder))
    assert again == encoder
    assert as_lists(again.encode([*TEXTS, "未知 unknown"])) == ids


@pytest.mark.parametrize("tokenizer", TOKENIZER_NAMES)
def test_fit_encode_is_fit_then_encode(tokenizer):
    if tokenizer == "jieba":
        pytest.importorskip("jieba")
    options = {"tokenizer": tokenizer, "min_count": 2, "max_tokens": 5, "truncation": "tail", "max_vocabulary": 12}
    encoder, encoded = TextEncoder.fit_encode(TEXTS * 2, **options)
    assert encoder == TextEncoder.fit(TEXTS * 2, **options)
    again = encoder.encode(TEXTS * 2)
    assert as_lists(encoded) == as_lists(again)
    assert encoded.lengths.tolist() == again.lengths.tolist() == [len(encoder.tokenize(text)) for text in TEXTS * 2]
    assert encoder.num_tokens <= 12
    assert encoded.ids[2].tolist() == []


def test_each_setting_changes_the_tokens():
    text = "<b>Good</b> ＡＢ"
    assert TextEncoder.fit([text]).tokenize(text) == ["good", "ab"]
    assert TextEncoder.fit([text], lowercase=False).tokenize(text) == ["Good", "AB"]
    assert TextEncoder.fit([text], strip_html=False).tokenize(text) == ["<", "b", ">", "good", "<", "/", "b", ">", "ab"]
    assert TextEncoder.fit([text], normalization=None).tokenize(text) == ["good", "ａｂ"]


@pytest.mark.parametrize(
    ("truncation", "kept", "said"),
    [
        ("head", "abcdef", "the beginning was kept"),
        ("tail", "efghij", "the end was kept"),
        ("ends", "afghij", "the first quarter and the end were kept"),
    ],
)
def test_truncation_keeps_what_it_says_and_is_stated(truncation, kept, said):
    texts = [" ".join("abcdefghij"), " ".join("abcdef"), "a"]
    encoder, encoded = TextEncoder.fit_encode(texts, max_tokens=6, truncation=truncation)
    assert "".join(encoder.vocabulary.decode(encoded.ids[0].tolist())) == kept
    assert "".join(encoder.vocabulary.decode(encoded.ids[1].tolist())).replace(UNKNOWN, "?") == "".join(
        letter if letter in encoder.vocabulary else "?" for letter in "abcdef"
    )
    assert encoded.lengths.tolist() == [10, 6, 1]
    assert (encoded.truncated, encoded.longest) == (1, 10)
    assert encoder.describe_truncation(encoded) == (
        f"1 of 3 texts (33.3%) were longer than max_tokens=6 and were cut: {said}. The longest had 10 tokens."
    )
    assert encoder.describe_truncation(encoder.encode(["a"])) == ""
    assert len(encoder.tokenize(texts[0])) == 10


def test_tokens_that_are_cut_off_everywhere_are_unknown():
    encoder = TextEncoder.fit(["a b c", "a b d"], max_tokens=2)
    assert encoder.vocabulary.tokens == (UNKNOWN, "a", "b")


def test_max_vocabulary_keeps_the_most_frequent():
    encoder = TextEncoder.fit(["c c c b b a"], max_vocabulary=3)
    assert encoder.vocabulary.tokens == (UNKNOWN, "c", "b")


def test_a_hundred_thousand_tokens_are_cut_to_the_limit():
    encoder = TextEncoder.fit(["good bad"], max_tokens=512)
    encoded = encoder.encode(["good " * 99_999 + "bad", "好" * 100_000, "a\0b\ud800"])
    assert [len(ids) for ids in encoded.ids] == [512, 512, 3]
    assert (encoded.truncated, encoded.longest) == (2, 100_000)


def test_texts_of_any_sequence(monkeypatch):
    encoder = TextEncoder.fit(np.array(["a b", "b"]))
    assert as_lists(encoder.encode(("b", "a"))) == [[1], [2]]
    pandas = pytest.importorskip("pandas")
    assert as_lists(encoder.encode(pandas.Series(["b", "a"], index=[5, 6]))) == [[1], [2]]


def test_progress_counts_texts():
    seen: list[tuple[int, int]] = []
    TextEncoder.fit(["a"] * 600, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 600), (256, 600), (512, 600), (600, 600)]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "expected texts to learn a vocabulary from, found none"),
        (["", " \n", "<br>"], {}, "the 3 texts are all empty"),
        (["a b"], {"min_count": 2}, "none occurs min_count=2 times"),
        ("a text", {}, r"expected a list of texts, found one str; put it into a list: \[text\]"),
        (["a", 3.5], {}, "text 1: expected a text .*found float 3.5"),
        (["a", None], {}, "text 1: expected a text .*found NoneType"),
        (["", " "], {"tokenizer": "bpe"}, "the 2 texts are all empty"),
    ],
)
def test_texts_that_cannot_be_learned_from(texts, options, message):
    with pytest.raises(DataError, match=message):
        TextEncoder.fit(texts, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "word"}, r"tokenizer='word': expected one of .*Did you mean 'words'\?"),
        ({"truncation": "first"}, r"truncation='first': expected one of 'head', 'tail', 'ends'"),
        ({"normalization": "NFX"}, r"normalization='NFX': expected one of 'NFC', 'NFD', 'NFKC', 'NFKD'"),
        ({"max_tokens": 0}, "max_tokens=0: expected a whole number of at least 1"),
        ({"max_tokens": 2.5}, "max_tokens=2.5: expected a whole number"),
        ({"max_tokens": True}, "max_tokens=True: expected a whole number"),
        ({"max_vocabulary": 1}, "max_vocabulary=1: expected a whole number of at least 2"),
        ({"min_count": 0}, "min_count=0: expected a whole number of at least 1"),
        ({"lowercase": "yes"}, "lowercase='yes': expected true or false"),
        ({"strip_html": None}, "strip_html=None: expected true or false"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(RecipeError, match=message):
        TextEncoder.fit(["a"], **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, r"expected the keys .*found \[.*'extra'"),
        ({"tokenizer": "wörds"}, "tokenizer='wörds'"),
        ({"vocabulary": ["<unk>", "a", "a"]}, "token 2 of the vocabulary is a repeat"),
        ({"vocabulary": "<unk>"}, "the vocabulary is not a list"),
        ({"vocabulary": None}, "the vocabulary is not a list"),
        ({"max_tokens": "9"}, "max_tokens='9'"),
        ({"tokenizer": "bpe"}, "does not fit the key 'bpe'"),
        ({"bpe": {"version": "1.0"}}, "byte-pair tokeniser cannot be read"),
    ],
)
def test_a_broken_state_is_a_bundle_error(change, message):
    state = TextEncoder.fit(["a b"]).to_dict()
    with pytest.raises(BundleError, match=message):
        TextEncoder.from_dict({**state, **change})
    del state["vocabulary"]
    with pytest.raises(BundleError, match="expected the keys"):
        TextEncoder.from_dict(state)


def test_a_broken_state_that_is_no_mapping():
    with pytest.raises(BundleError, match="found list"):
        TextEncoder.from_dict([])  # pyright: ignore[reportArgumentType]


any_text = st.text(st.characters(), max_size=60)


@pytest.mark.parametrize("tokenizer", ["words", "characters", "bpe"])
@settings(deadline=None, max_examples=60)
@given(texts=st.lists(any_text, min_size=1, max_size=4), form=st.sampled_from([None, "NFC", "NFD", "NFKC", "NFKD"]))
def test_any_unicode_survives_the_round_trip(tokenizer, texts, form):
    encoder, encoded = TextEncoder.fit_encode([*texts, "x"], tokenizer=tokenizer, normalization=form)
    again = TextEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    json.dumps(encoder.to_dict(), ensure_ascii=False).encode("utf-8")
    assert as_lists(again.encode([*texts, "x"])) == as_lists(encoded)
    if tokenizer != "bpe":
        for text, ids in zip(texts, encoded.ids, strict=False):
            assert encoder.vocabulary.decode(ids.tolist()) == encoder.tokenize(text)


def test_the_data_modules_that_models_run_with_import_no_torch():
    code = (
        "import sys\n"
        "import tidegate.data.encoder, tidegate.data.sources, tidegate.data.bundled, tidegate.data.seeds\n"
        "print([name for name in ('torch', 'pandas', 'polars', 'jieba', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_encoder_is_its_values():
    encoder = TextEncoder.fit(["a b"])
    assert encoder == TextEncoder("words", True, True, "NFKC", None, "head", Vocabulary([UNKNOWN, "a", "b"]))
    assert encoder != TextEncoder.fit(["a b"], lowercase=False)
