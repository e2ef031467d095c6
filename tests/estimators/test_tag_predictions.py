"""Raw text, and long text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.data.tag_schemes import illegal_places
from tidegate.errors import DataError
from tidegate.estimators.sequence_tagger import SequenceTagger
from tiny_tags import tiny_sentences

X, Y, _ = tiny_sentences(120)


@pytest.fixture(scope="module")
def tagger() -> SequenceTagger:
    model = SequenceTagger(
        embedding_size=16,
        char_embedding_size=8,
        char_hidden_size=8,
        hidden_size=16,
        learning_rate=0.02,
        max_epochs=5,
        random_state=0,
        device="cpu",
        verbose=False,
    )
    return model.fit(X, Y)


def test_entities_stand_where_the_text_has_them(tagger: SequenceTagger):
    text = "\u200b Zoë went to New  York.\r\n\t李雷 met 'Ада'."
    (entities,) = tagger.extract([text])
    found = [(entity.text, entity.type) for entity in entities]
    assert ("New  York", "LOC") in found
    assert ("Ада", "PER") in found
    for entity in entities:
        assert text[entity.start : entity.end] == entity.text
        assert 0 < entity.confidence <= 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["Ada", "New York", "李雷", "met", ". ", "。", "\n", "👩🏽‍🚀", "e\u0301", "\u2028", "\ud800", " "]
        ),
        max_size=12,
    )
)
def test_offsets_are_exact_whatever_the_text(tagger: SequenceTagger, pieces: list[str]):
    text = "".join(pieces)
    (entities,) = tagger.extract([text])
    assert all(text[entity.start : entity.end] == entity.text and entity.text for entity in entities)
    places = [place for entity in entities for place in (entity.start, entity.end)]
    assert places == sorted(places)


def test_empty_and_blank_texts_have_no_entities(tagger: SequenceTagger):
    assert tagger.extract(["", " \n ", "."])[:2] == [[], []]
    assert tagger.extract([]) == []
    with pytest.raises(DataError, match="single str"):
        tagger.extract("Ada")


# --- long sentences


def long_sentence(length: int) -> list[str]:
    tokens: list[str] = []
    for row in tiny_sentences(length, seed=5)[0]:
        tokens += row
    return tokens[:length]


def test_a_sentence_of_5000_tokens_is_read_in_pieces_without_seams(tagger: SequenceTagger):
    tokens = long_sentence(5000)
    tagger.set_params(window=None)
    whole, emissions = tagger.predict([tokens]), tagger.predict_emissions([tokens])
    tagger.set_params(window=200)
    assert tagger.predict([tokens]) == whole
    # A recurrent net forgets: what lies 50 tokens away moves no score that one sees.
    np.testing.assert_allclose(tagger.predict_emissions([tokens])[0], emissions[0], atol=1e-3)
    tagger.set_params(window=1024)


@pytest.mark.parametrize("window", [4, 5, 7, 64, 333])
def test_any_window_gives_every_token_its_tag(tagger: SequenceTagger, window: int):
    sentences = [long_sentence(length) for length in (1, 3, 4, 5, 6, 63, 64, 65, 333, 334, 700)]
    tagger.set_params(window=window)
    found = tagger.predict(sentences)
    assert [len(tags) for tags in found] == [len(tokens) for tokens in sentences]
    assert not any(illegal_places(tags, "bio") for tags in found)
    assert [len(rows) for rows in tagger.predict_marginals(sentences)] == [len(tokens) for tokens in sentences]
    tagger.set_params(window=1024)


def test_the_order_and_company_of_sentences_do_not_matter(tagger: SequenceTagger):
    sentences = [long_sentence(length) for length in (9, 1, 300, 2000, 4)]
    together = tagger.predict(sentences)
    assert [tagger.predict([tokens])[0] for tokens in sentences] == together
    assert tagger.predict(sentences[::-1]) == together[::-1]
