"""Tagged sentences that a small tagger learns in a second: names, and what is done with them."""

from __future__ import annotations

import random

PEOPLE = ["Ada", "Bo", "Zoë", "Ада", "李雷"]
PLACES = ["Rome", "New York", "Oslo", "北京"]
VERBS = ["met", "left", "saw", "likes"]


def tiny_sentences(count: int, seed: int = 0) -> tuple[list[list[str]], list[list[str]], list[str]]:
    """Sentences, their tags (BIO) and their intents."""
    generator = random.Random(seed)
    sentences, tags, intents = [], [], []
    for _ in range(count):
        words, marks = [], []

        def put(text: str, kind: str, words: list[str] = words, marks: list[str] = marks) -> None:
            for place, word in enumerate(text.split()):
                words.append(word)
                marks.append(f"{'I' if place else 'B'}-{kind}" if kind else "O")

        intent = generator.choice(["meet", "go"])
        put(generator.choice(PEOPLE), "PER")
        if intent == "meet":
            put(generator.choice(VERBS), "")
            put(generator.choice(PEOPLE), "PER")
        else:
            put("went to", "")
            put(generator.choice(PLACES), "LOC")
        put(".", "")
        sentences.append(words)
        tags.append(marks)
        intents.append(intent)
    return sentences, tags, intents


def conll(sentences: list[list[str]], tags: list[list[str]]) -> str:
    """The sentences as a file of two columns."""
    rows = zip(sentences, tags, strict=True)
    return "\n".join("".join(f"{a} {b}\n" for a, b in zip(*row, strict=True)) for row in rows)
