"""The sections of a tagger's report: F1, types, errors by kind in their sentences, transitions, one sentence inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.reporting import plots
from tidegate.reporting.facts import TaggingFacts
from tidegate.reporting.markup import card, duration, figure, language, number, percent, section, table, text
from tidegate.reporting.tagging import ERROR_KINDS, TaggingMistake

__all__ = ["tagging_sections"]

_MOST_TAGS = 34  # tags of a drawn matrix of transitions
_MANY_TAGS = 20  # from which on a matrix is drawn smaller
_LONGEST = 40  # tokens of a sentence shown around a mistake


def tagging_sections(facts: TaggingFacts, notes: str) -> tuple[str, ...]:
    """The parts of the page from its head to the curves."""
    return (
        _headline(facts),
        notes,
        section("Test set by type", _by_type(facts)),
        section("Errors by kind", _errors(facts)),
        section("Transitions", _transitions(facts)),
        section("One sentence inside", _inspection(facts)),
    )


def _headline(facts: TaggingFacts) -> str:
    test = facts.test
    if not test:
        return ""
    plain = test["scheme"] == "plain"
    low, high = test["interval"]
    main = test["accuracy"] if plain else test["f1"]
    name = "test accuracy of tags" if plain else "test F1 of segments"
    tiles = [] if plain else [("precision", percent(test["precision"])), ("recall", percent(test["recall"]))]
    tiles += [] if plain else [("token accuracy", percent(test["accuracy"]))]
    tiles.append(("sentences all right", percent(test["sentence_accuracy"])))
    if "intent_accuracy" in test:
        tiles += [
            ("intent accuracy", percent(test["intent_accuracy"])),
            ("both right", percent(test["joint_accuracy"])),
        ]
    if facts.history:
        tiles.append(("epochs", f"{len(facts.history)}"))
    if "train" in facts.timing:
        # Of a run that was gone on with, the timing is of its last part alone.
        epochs = sum(record.get("seconds", 0.0) for record in facts.history)
        tiles.append(("training", duration(max(facts.timing["train"], epochs))))
    things = f"{test['tokens']:,} tokens" if plain else f"{test['segments']:,} segments"
    boxes = "".join(f'<div class="card"><span class="small">{text(k)}</span><b>{text(v)}</b></div>' for k, v in tiles)
    unseen = ""
    if test["unseen"]:
        named = ", ".join(list(test["unseen"])[:8])
        total = sum(test["unseen"].values())
        unseen = f" {total:,} of them bear tags that training has not seen ({named}) and count as errors."
    return (
        f'<div class="card headline"><div><p class="small">{name}</p>'
        f'<p class="figure">{100 * main:.2f}<span>%</span></p></div>'
        f'<div><p class="small">95% interval {100 * low:.2f} to {100 * high:.2f}%, over resamples of the '
        f"{test['count']:,} test sentences with {things}.{text(unseen)}</p></div></div>"
        f'<div class="tiles">{boxes}</div>'
    )


def _by_type(facts: TaggingFacts) -> str:
    if not facts.test:
        return ""
    rows = [
        (
            row["label"] or "(segment)",
            *(percent(row[key]) for key in ("precision", "recall", "f1")),
            f"{row['support']:,}",
            f"{row['found']:,}",
        )
        for row in sorted(facts.test["per_type"], key=lambda row: -row["support"])
    ]
    scores = card(table(("type", "precision", "recall", "F1", "there", "found"), rows))
    confusion = facts.test["confusion"]
    if len(confusion["labels"]) < 2:
        return scores
    drawing = plots.confusion_matrix(confusion["matrix"], [label or "(segment)" for label in confusion["labels"]])
    caption = "Tokens by their right type (rows) and the predicted one (columns); shades are shares of the row."
    return scores + figure(drawing, caption, wide=True)


def _errors(facts: TaggingFacts) -> str:
    if not facts.test or not facts.mistakes:
        return ""
    counts = facts.test["errors"]
    rows = [(f"{kind}: {ERROR_KINDS[kind]}", f"{count:,}") for kind, count in counts.items()]
    overview = card(table(("kind", "errors"), rows)) if rows else ""
    items = "".join(_mistake(mistake) for mistake in facts.mistakes)
    legend = (
        '<p>Of each kind those of which the model was surest. What is there stands in <span class="right">this '
        'colour</span>, what was found in <span class="wrong">that</span>.</p>'
    )
    return f'{overview}{legend}<div class="card"><ol class="mistakes">{items}</ol></div>'


def _mistake(mistake: TaggingMistake) -> str:
    spans = [span for span in (mistake.truth, mistake.predicted) if span is not None]
    first, last = min(span.start for span in spans), max(span.end for span in spans)
    begin, end = max(0, first - _LONGEST // 2), min(len(mistake.tokens), last + _LONGEST // 2)
    glue = "" if language("".join(mistake.tokens)) else " "
    words = []
    for place in range(begin, end):
        there = mistake.truth is not None and mistake.truth.start <= place < mistake.truth.end
        found = mistake.predicted is not None and mistake.predicted.start <= place < mistake.predicted.end
        word = text(mistake.tokens[place])
        style = "border-bottom:2px solid var(--bad)" if found else ""
        kind = ' class="right"' if there else ' class="wrong"' if found else ""
        words.append(f'<span{kind} style="{style}">{word}</span>' if kind else word)
    before, after = "… " if begin else "", " …" if end < len(mistake.tokens) else ""
    said = "nothing" if mistake.predicted is None else mistake.predicted.type or "a segment"
    right = "nothing" if mistake.truth is None else mistake.truth.type or "a segment"
    sure = "" if math.isnan(mistake.confidence) else f", {percent(mistake.confidence)} sure"
    origin = f"<span>{text(mistake.origin)}</span>" if mistake.origin else ""
    return (
        f'<li><p dir="auto"{language("".join(mistake.tokens))}>{before}{glue.join(words)}{after}</p>'
        f'<div class="verdict"><span>{text(mistake.kind)}</span><span>there is <span class="right">{text(right)}</span>'
        f'</span><span>model said <span class="wrong">{text(said)}</span>{sure}</span>{origin}</div></li>'
    )


def _transitions(facts: TaggingFacts) -> str:
    drawn = facts.transitions
    if not drawn:
        return ""
    tags: Sequence[str] = drawn["tags"][:_MOST_TAGS]
    scores, allowed = drawn["scores"], drawn["allowed"]
    most = max((abs(scores[i][j]) for i in range(len(tags)) for j in range(len(tags))), default=1.0) or 1.0
    upright = "writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;white-space:nowrap"
    size, pad = ("0.6875rem", "2px 1px") if len(tags) > _MANY_TAGS else ("0.875rem", "2px 4px")
    head = "".join(
        f'<th scope="col" style="padding:{pad};font-size:{size}"><span style="{upright}">{text(tag)}</span></th>'
        for tag in tags
    )
    rows = "".join(
        f'<tr><th scope="row" style="padding:2px 4px 2px 0;font-size:{size}">{text(tag)}</th>'
        + "".join(_cell(scores[i][j], most, allowed is None or allowed[i][j], pad) for j in range(len(tags)))
        + "</tr>"
        for i, tag in enumerate(tags)
    )
    more = f" The first {len(tags)} of {len(drawn['tags'])} tags." if len(drawn["tags"]) > len(tags) else ""
    return (
        "<p>The learned score of a tag (column) after another (row), in nats; a dot is a sequence that the scheme "
        f"forbids, which has no probability.{more}</p>"
        + card(f'<table style="font-size:{size}"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>')
    )


def _cell(score: float, most: float, legal: bool, pad: str) -> str:
    if not legal:
        return f'<td style="padding:{pad};color:var(--muted)">·</td>'
    colour = "--series-1" if score >= 0 else "--series-2"
    strength = round(100 * min(1.0, abs(score) / most))
    return (
        f'<td style="padding:{pad};background:color-mix(in srgb, var({colour}) {strength // 2}%, transparent)">'
        f"{score:+.1f}</td>"
    )


def _inspection(facts: TaggingFacts) -> str:
    rows: Sequence[Mapping[str, Any]] = facts.inspection
    if not rows:
        return ""
    shown = [
        (
            row["token"],
            row["tag"],
            percent(row["probability"]),
            number(row["emission"], 2),
            number(row["transition"], 2),
            "" if row["emission_tag"] == row["tag"] else row["emission_tag"],
        )
        for row in rows
    ]
    words = (
        "<p>What chose each tag: its emission, the encoder's own score, and the transition from the tag before. Where "
        "the emissions alone would have given another tag, the last column names it.</p>"
    )
    heads = ("token", "tag", "probability", "emission", "transition", "by emissions alone")
    return words + card(table(heads, shown))
