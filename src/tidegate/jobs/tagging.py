"""What the commands do with taggers: fit, judge, evaluate, tag texts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.data.bundled import PREFIX
from tidegate.data.tag_schemes import Span, convert_tags, recognise_scheme, spans_of, split_tag
from tidegate.data.tagged import TaggedExamples, read_tagged
from tidegate.errors import DataError, require
from tidegate.jobs.run_steps import check_idle, timed
from tidegate.jobs.splits import Splits
from tidegate.jobs.tagging_data import (
    check_first_sentences,
    read_bundled,
    read_tagged_splits,
    tagged_notes,
)
from tidegate.jobs.tasks import Task, Trained, estimator
from tidegate.reporting.facts import TaggingFacts

if TYPE_CHECKING:
    from tidegate.estimators.sequence_tagger import SequenceTagger

__all__ = ["TaggedText", "evaluate_tagger", "marked_text", "tag_texts", "tagging_task"]

_SHOWN = 60  # tokens of the longest sentence that a report looks into


@dataclass(frozen=True)
class TaggedText:
    """What a tagger says of a text: its entities, their places counted in characters, and its intent, if any."""

    text: str
    entities: list[dict[str, Any]]
    intent: str | None
    plain: bool

    def as_json(self) -> dict[str, Any]:
        """What `predict --json` prints."""
        value = {"text": self.text, "entities": self.entities}
        return value if self.intent is None else {**value, "intent": self.intent}

    def as_line(self) -> str:
        """What `predict` prints: the intent, if any, and the text with its segments marked."""
        return marked_text(self) if self.intent is None else f"{self.intent}\t{marked_text(self)}"

    def as_example(self) -> str:
        """What `train` prints of a sentence to try."""
        return self.as_line()


def marked_text(tagged: TaggedText) -> str:
    """A tagged text in one line: ``[Ada PER] left``; of parts of speech ``Ada/NNP left/VBD``; of words alone, words.

    Line ends inside the text become blanks.
    """
    if tagged.entities and (tagged.plain or not any(entity["type"] for entity in tagged.entities)):
        glue = " " if tagged.plain else "  "
        return glue.join(
            entity["text"] + (f"/{entity['type']}" if entity["type"] else "") for entity in tagged.entities
        )
    pieces, place = [], 0
    for entity in tagged.entities:
        pieces += [tagged.text[place : entity["start"]], f"[{entity['text']} {entity['type']}]"]
        place = entity["end"]
    return " ".join("".join([*pieces, tagged.text[place:]]).splitlines())


def tagging_task() -> Task:
    """How a tagging recipe is run."""
    return Task(
        unit="sentences",
        make=_make,
        read=read_tagged_splits,
        notes=tagged_notes,
        fit=_fit,
        facts=TaggingFacts,
        test=_test,
        describe=_describe,
        evaluate=evaluate_tagger,
        predict=tag_texts,
        first_rows=check_first_sentences,
        ensemble=estimator("SequenceTaggerEnsemble"),
    )


def _make(**arguments: Any) -> SequenceTagger:
    require("seqeval", "metrics")  # rather now than after the training
    return estimator("SequenceTagger")(**arguments)


def _fit(model: SequenceTagger, splits: Splits[TaggedExamples], **options: Any) -> None:
    train, held, intents = splits.train, splits.validation, splits.train.intents
    if held is not None and intents is not None and held.intents is None:
        raise DataError("the training sentences have intents and the validation sentences have none")
    validation = None
    if held is not None:
        validation = (held.sentences, held.tags) if intents is None else (held.sentences, held.tags, held.intents)
    model.fit(train.sentences, train.tags, validation_data=validation, intents=intents, **options)


def _test(trained: Trained) -> dict[str, Any]:
    from tidegate.reporting.tagging import tagging_mistakes

    model, examples = trained.model, trained.test
    with timed(trained.timing, "test"):
        test = _metrics(model, examples)
    spans = model.predict_spans(examples.sentences)
    found = [[(Span(span.start, span.end, span.type), span.confidence) for span in row] for row in spans]
    mistakes = tagging_mistakes(
        examples.sentences, _in_scheme(model, examples), found, model.tag_scheme_, examples.origins
    )
    looked_into = next((item.tokens for item in mistakes if len(item.tokens) <= _SHOWN), ())
    return {"test": test, "mistakes": mistakes, "inspection": model.inspect(looked_into)}


def _describe(model: SequenceTagger, splits: Splits[TaggedExamples]) -> dict[str, Any]:
    parts = splits.parts()
    return {
        "class_counts": {name: _type_counts(model, examples) for name, examples in parts.items()},
        "token_lengths": {name: list(map(len, examples.sentences)) for name, examples in parts.items()},
        "transitions": _transitions(model),
    }


def evaluate_tagger(model: SequenceTagger, data: str, columns: dict[str, str | None], **reading: Any) -> dict[str, Any]:
    """``tagging_metrics`` of a tagger on a file, or on the test part of bundled data.

    Raises:
        DataError: The data cannot be read as said, or have no tags of the model's kind.
    """
    named = {name: value for name, value in columns.items() if value is not None}
    part = named.pop("part", None)
    check_idle(named, "tagged sentences")
    if data.startswith(PREFIX):
        check_idle(sorted(set(reading) - {"unit"}), "bundled data")
        unit = reading.get("unit")
        if unit is None and model.tag_scheme_ != "plain":
            unit = "tagged-characters" if any(split_tag(tag)[1] for tag in model.tags_) else "characters"
        return _metrics(model, read_bundled(data, part or "test", unit=unit))
    if part is not None:
        raise DataError(f"part={part!r} has no effect on {data}: only bundled data have parts; remove it")
    return _metrics(model, read_tagged(data, **reading))


def tag_texts(model: SequenceTagger, texts: list[str]) -> list[TaggedText]:
    """The entities of raw texts; of a tagger of parts of speech, every token with its tag."""
    if not texts:
        return []
    found = model.extract(texts)
    intents: list[str] | list[None] = [None] * len(texts)
    if model.intents_ is not None:
        from tidegate.data.raw_text import cut_text

        intents = model.predict_intents([[token.text for token in cut_text(text, model.tokenizer)] for text in texts])
    return [
        TaggedText(
            text,
            [{**dataclasses.asdict(entity), "confidence": round(entity.confidence, 6)} for entity in entities],
            intent,
            model.tag_scheme_ == "plain",
        )
        for text, entities, intent in zip(texts, found, intents, strict=True)
    ]


def _metrics(model: SequenceTagger, examples: TaggedExamples) -> dict[str, Any]:
    from tidegate.reporting.tagging import tagging_metrics

    predicted = model.predict(examples.sentences)
    scheme = model.tag_scheme_
    truth = _in_scheme(model, examples)
    metrics = tagging_metrics(truth, predicted, scheme, known_tags=model.tags_ if scheme == "plain" else ())
    if scheme != "plain":
        kinds = {split_tag(tag)[1] for tag in model.tags_}
        foreign = Counter(span.type for row in truth for span in spans_of(row) if span.type not in kinds)
        metrics["unseen"] = dict(foreign.most_common())
    if model.intents_ is not None and examples.intents is not None:
        said = model.predict_intents(examples.sentences)
        right = [a == b for a, b in zip(said, examples.intents, strict=True)]
        whole = [hit and list(a) == list(b) for hit, a, b in zip(right, truth, predicted, strict=True)]
        metrics["intent_accuracy"] = sum(right) / len(right)
        metrics["joint_accuracy"] = sum(whole) / len(whole)
    return metrics


def _in_scheme(model: SequenceTagger, examples: TaggedExamples) -> list[list[str]]:
    """The tags of examples in the scheme that the model learned, as another file may be written in another."""
    if examples.tags is None:
        raise DataError("the sentences have no tags, which an evaluation needs")
    if model.tag_scheme_ == "plain":
        return examples.tags
    # A file of few sentences may have no segment at all.
    scheme = recognise_scheme(examples.tags)
    if scheme != "plain":
        return [convert_tags(row, scheme, model.tag_scheme_) for row in examples.tags]
    other = next((tag for row in examples.tags for tag in row if tag != "O"), None)
    if other is not None:
        raise DataError(
            f"{examples.origins[0]}: the model tags segments ({model.tag_scheme_}), and the tags here, as {other!r}, "
            "mark none; name the column of the right ones"
        )
    return examples.tags


def _type_counts(model: SequenceTagger, examples: TaggedExamples) -> dict[str, int]:
    if model.tag_scheme_ == "plain":
        return dict(Counter(tag for row in examples.tags or () for tag in row).most_common())
    counts = Counter(span.type or "segment" for row in examples.tags or () for span in spans_of(row))
    return dict(counts.most_common())


def _transitions(model: SequenceTagger) -> dict[str, Any] | None:
    """The learned scores between tags, for the report; several taggers as one have none of their own."""
    crf = model.network_.head.crf if hasattr(model, "network_") else None
    if crf is None:
        return None
    allowed = None if crf.allowed is None else crf.allowed.tolist()
    return {"tags": model.tags_, "scores": crf.transitions.detach().cpu().tolist(), "allowed": allowed}
