from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tidegate.data.tagged import read_tagged, write_tagged
from tidegate.errors import DataError

CONLL = """\
-DOCSTART- -X- O O

# a comment of another width
EU NNP I-NP I-ORG
rejects VBZ I-VP O

# # I-NP O
10 CD I-NP O
-DOCSTART- -X- O O

Peter NNP I-NP I-PER
"""


def write(folder: Path, text: str, name: str = "a.conll") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


def test_sentences_comments_and_documents(tmp_path: Path):
    examples = read_tagged(write(tmp_path, CONLL))
    assert examples.sentences == [["EU", "rejects"], ["#", "10"], ["Peter"]]
    assert examples.tags == [["I-ORG", "O"], ["O", "O"], ["I-PER"]]
    assert examples.origins == ["a.conll:4", "a.conll:7", "a.conll:11"]
    assert examples.layout.documents == 2  # pyright: ignore
    assert examples.num_tokens == 5
    assert examples.intents is None


@pytest.mark.parametrize(("column", "tags"), [(1, ["NNP", "VBZ"]), (-2, ["I-NP", "I-VP"]), (3, ["I-ORG", "O"])])
def test_any_column(tmp_path: Path, column: int, tags: list[str]):
    assert read_tagged(write(tmp_path, CONLL), tag_column=column).tags[0] == tags  # pyright: ignore


def test_the_token_may_stand_anywhere(tmp_path: Path):
    examples = read_tagged(write(tmp_path, "1\tDas\tDET\n2\tHaus\tNOUN\n"), token_column=1)
    assert (examples.sentences, examples.tags) == ([["Das", "Haus"]], [["DET", "NOUN"]])


def test_one_column_has_no_tags(tmp_path: Path):
    examples = read_tagged(write(tmp_path, "Das\nHaus\n\nJa\n"))
    assert (examples.sentences, examples.tags) == ([["Das", "Haus"], ["Ja"]], None)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_other_tags_are_written_in_the_same_form(tmp_path: Path, newline: str):
    text = CONLL.replace("\n", newline).replace("VBZ I-VP", "VBZ \t I-VP")
    examples = read_tagged(write(tmp_path, text))
    assert examples.tags is not None
    path = write_tagged(tmp_path / "same.conll", examples, examples.tags)
    assert path.read_bytes() == text.encode()
    other = write_tagged(tmp_path / "other.conll", examples, [["B-X", "O"], ["O", "S-Y"], ["O"]])
    expected = text.replace("I-ORG", "B-X").replace("10 CD I-NP O", "10 CD I-NP S-Y").replace("I-NP I-PER", "I-NP O")
    assert other.read_bytes() == expected.encode()
    with pytest.raises(DataError, match="one tag for every token"):
        write_tagged(path, examples, [["O"], ["O", "O"], ["O"]])


def test_a_byte_order_mark_crlf_tabs_blanks_and_trailing_blanks(tmp_path: Path):
    text = "\ufeffAda\t B-PER  \r\nmet \tO\r\n \t\r\nBo  B-PER\r\n"
    examples = read_tagged(write(tmp_path, text))
    assert examples.sentences == [["Ada", "met"], ["Bo"]]
    assert examples.tags == [["B-PER", "O"], ["B-PER"]]


def test_only_blanks_and_tabs_part_columns(tmp_path: Path):
    examples = read_tagged(write(tmp_path, "\u3000 O\na\u00a0b X\n"))
    assert examples.sentences == [["\u3000", "a\u00a0b"]]


def test_a_ragged_line_is_named(tmp_path: Path):
    path = write(tmp_path, "a b O\nc d O\ne O\n\nf g O\n")
    with pytest.raises(DataError, match=r"a\.conll:3: expected 3 columns, as most lines have, found 2 in 'e O'"):
        read_tagged(path)


def test_the_first_line_may_be_the_ragged_one(tmp_path: Path):
    with pytest.raises(DataError, match=r"a\.conll:1: expected 2 columns, as most lines have, found 3"):
        read_tagged(write(tmp_path, "a b c\nd O\ne O\n"))


def test_what_is_not_there_is_refused(tmp_path: Path):
    path = write(tmp_path, "a O\n")
    with pytest.raises(DataError, match="tag_column=2: the lines have 2 columns, 0 to 1"):
        read_tagged(path, tag_column=2)
    with pytest.raises(DataError, match="unit='words' has no effect on the format 'conll'"):
        read_tagged(path, unit="words")
    with pytest.raises(DataError, match="Did you mean 'conll'"):
        read_tagged(path, format="conl")
    with pytest.raises(DataError, match="there is no sentence"):
        read_tagged(write(tmp_path, "\n\n"))
    with pytest.raises(DataError, match="there is no such file"):
        read_tagged(tmp_path / "none.conll")


def test_compressed_files_are_read(tmp_path: Path):
    path = tmp_path / "a.bio.gz"
    path.write_bytes(gzip.compress("北 B-LOC\n京 I-LOC\n".encode()))
    assert read_tagged(path).sentences == [["北", "京"]]


CONLLU = """\
# sent_id = 1
1-2\tim\t_\t_\t_\t_\t_\t_\t_\t_
1\tin\tin\tADP\tIN\t_\t2\tcase\t_\t_
2\tdem Haus\tHaus\tNOUN\tNN\t_\t0\troot\t_\t_
2.1\tx\t_\t_\t_\t_\t_\t_\t_\t_

1\tJa\tja\tINTJ\tITJ\t_\t0\troot\t_\t_
"""


def test_conllu_without_groups_and_empty_nodes(tmp_path: Path):
    path = write(tmp_path, CONLLU, "a.conllu")
    examples = read_tagged(path)
    assert examples.sentences == [["in", "dem Haus"], ["Ja"]]
    assert examples.tags == [["ADP", "NOUN"], ["INTJ"]]
    assert read_tagged(path, tag_column="xpos").tags == [["IN", "NN"], ["ITJ"]]
    written = write_tagged(tmp_path / "b.conllu", examples, [["X", "Y"], ["Z"]])
    assert written.read_text() == CONLLU.replace("ADP", "X").replace("NOUN", "Y").replace("INTJ", "Z")
    with pytest.raises(DataError, match="Did you mean 'upos'"):
        read_tagged(path, tag_column="upso")
    with pytest.raises(DataError, match=r"a\.conllu:1: expected the 10 columns of CoNLL-U"):
        read_tagged(write(tmp_path, "1 in ADP\n", "a.conllu"))
