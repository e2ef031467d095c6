from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.data.text import TOKENIZERS, load_bpe, prepare, strip_html, train_bpe
from tidegate.errors import DataError, MissingExtraError

words = TOKENIZERS["words"]
characters = TOKENIZERS["characters"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I <3 it; 3 <4 and a < b > c", "I <3 it; 3 <4 and a < b > c"),
        ("a<br />b<BR>c<br/>d", "a b c d"),
        ("<b>bo</b>ld <I>x</I> <EM>y</EM>", "bold x y"),
        ('<a href="x?a>b" class=c>link</a>', "link"),
        ("<a title='a > b'>link</a>", "link"),
        ("<div><p>one</p><p>two</p></div>", "  one  two  "),
        ("<sarcasm>great</sarcasm> <3", "<sarcasm>great</sarcasm> <3"),
        ("<bright> <b", "<bright> <b"),
        ("if a <b and c", "if a <b and c"),
        ("AT&T &amp; &quot;&#39;&#x597D;&hellip;", "AT&T & \"'好…"),
        ("&lt;b&gt; stays", "<b> stays"),
        ("a<!-- <b>no</b>\n-->b<!doctype html>c", "a b c"),
        ("<!-- open a", "<!-- open a"),
        ("a<script type=x>if (a<b) {}</script>b<STYLE>p {}</STYLE >c", "a b c"),
        ("很好<br/>便宜", "很好 便宜"),
        ("", ""),
    ],
)
def test_strip_html(text, plain):
    assert strip_html(text) == plain


@pytest.mark.parametrize("piece", ["<!--", "<script>", '<a "', "<script><style>", "--><!--", "<a '", "</", "&"])
def test_strip_html_of_a_hostile_text_is_no_slower_than_its_length(piece):
    # Quadratic search takes minutes for this length; the suite's time limit is the test.
    text = piece * 60_000
    assert len(strip_html(text)) <= len(text)


def test_prepare_follows_its_settings():
    text = "<b>Ｃａｆe\u0301</b> ÉTÉ ①"
    plain = prepare(text, lowercase=True, html=True, normalization="NFKC")
    assert plain == "café été 1"
    assert prepare(text, lowercase=False, html=True, normalization="NFC") == "Ｃａｆé ÉTÉ ①"
    assert prepare(text, lowercase=False, html=False, normalization=None) == text
    assert prepare("é", lowercase=False, html=False, normalization="NFD") == "e\u0301"


def test_prepare_makes_any_text_one_that_a_file_holds():
    text = "a\0b\ud83dc\x1bd\u200be\u00adf\ufeffg\u202eh\ti\u200dj"
    assert prepare(text, lowercase=False, html=False, normalization=None) == "a b\ufffdc defgh\ti\u200dj"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("don't miss it's o'clock", "don't miss it's o'clock"),
        ("don’t café’s l’été l'a", "don't café's l'été l'a"),
        ("good!!! really?!", "good ! ! ! really ? !"),
        ("well-made, 'em -- actors' _this_", "well - made , ' em -- actors ' _ this _"),
        ("7/10 3.5 1,000 10:30 1980s 80's mp3 2.5k", "7/10 3.5 1,000 10:30 1980s 80's mp3 2.5 k"),
        ("the U.S. ended. I.e. it", "the U.S. ended . I.e. it"),
        ("so... well....", "so ... well ... ."),
        ("nice :-) or :( ;D :do <3 a < b", "nice :-) or :( ;D : do <3 a < b"),
        ("“quoted” — yes", '" quoted " — yes'),
        ("不错，很好！iPhone手机10个", "不 错 ， 很 好 ！ iPhone 手 机 10 个"),
        ("カタカナ ひらがな 々〇", "カ タ カ ナ ひ ら が な 々 〇"),
        ("か\u3099き", "か\u3099 き"),
        ("𠮷野家", "𠮷 野 家"),
        ("한국어 영화", "한국어 영화"),
        ("हिन्दी में", "हिन्दी में"),
        ("Война и мир", "Война и мир"),
        ("ok👍🏽❤️👨‍👩‍👧🇨🇳🇩🇪", "ok 👍🏽 ❤️ 👨‍👩‍👧 🇨🇳 🇩🇪"),
        ("a\u00a0b\u3000c\td\ne", "a b c d e"),
        ("", ""),
        (" \n\t", ""),
    ],
)
def test_words(text, tokens):
    assert words(text) == tokens.split()


@given(st.text())
def test_words_lose_nothing_but_white_space(text):
    plain = text
    for curly, straight in ("‘'", "’'", '“"', '”"'):
        plain = plain.replace(curly, straight)
    tokens = words(text)
    assert "".join(tokens) == "".join(plain.split())
    assert all(tokens)


@given(st.text(st.sampled_from("ab'’é好か\u3099 .9\u0301")))
def test_a_word_is_the_same_before_every_neighbour(text):
    # The way through ASCII words is a short cut: text without ASCII letters takes the other way.
    table = str.maketrans("ab9", "абв")
    changed = [token.translate(table) for token in words(text.replace("9", "a").replace(".", " "))]
    assert changed == words(text.replace("9", "a").replace(".", " ").translate(table))


def test_a_hundred_thousand_tokens():
    assert words("word, " * 50_000) == ["word", ","] * 50_000
    assert words("好" * 100_000) == ["好"] * 100_000
    assert len(words("a" * 1_000_000)) == 1


def test_characters_fold_white_space():
    assert characters(" 很 好\n\tno ") == ["很", " ", "好", " ", "n", "o"]
    assert characters("") == []


@given(st.text())
def test_characters_are_the_text(text):
    assert "".join(characters(text)) == " ".join(text.split())


def test_jieba_gives_chinese_words():
    pytest.importorskip("jieba")
    jieba = TOKENIZERS["jieba"]
    assert jieba("这个 酒店的服务很好") == ["这个", "酒店", "的", "服务", "很", "好"]
    assert jieba("") == []
    assert "".join(jieba("好" * 20_000)) == "好" * 20_000


def test_jieba_is_quiet_and_leaves_no_file(tmp_path):
    pytest.importorskip("jieba")
    code = (
        "import tempfile, sys; tempfile.tempdir = sys.argv[1]\n"
        "from tidegate.data.text import TOKENIZERS\n"
        "print(TOKENIZERS['jieba']('好看'))"
    )
    command = [sys.executable, "-W", "error", "-X", "utf8", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.stdout, done.stderr) == ("['好看']\n", "")
    assert list(tmp_path.iterdir()) == []


def test_jieba_missing_names_the_extra(monkeypatch):
    from tidegate.data import text

    text._jieba.cache_clear()
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tidegate\[words\]"'):
        TOKENIZERS["jieba"]("好看")
    monkeypatch.undo()
    text._jieba.cache_clear()


BPE_TEXTS = ["the cat sat, the cat ate", "酒店很好。酒店很大", "the (cat) isn't"] * 3


def test_bpe_learns_frequent_pieces_and_marks_blanks():
    tokenize, pieces = load_bpe(train_bpe(BPE_TEXTS, max_vocabulary=200, min_count=2))
    assert pieces[0] == "<unk>"
    assert len(set(pieces)) == len(pieces) <= 200
    assert tokenize("the cat, the") == ["▁the", "▁cat", ",", "▁the"]
    assert tokenize("酒店很好") == ["▁酒店很好"]
    assert tokenize("很大酒店") == ["▁", "很", "大", "酒", "店"]
    assert tokenize(" \n") == []
    assert tokenize("the Ω") == ["▁the", "▁", "<unk>"]
    assert not any("," in piece and len(piece.strip("▁")) > 1 for piece in pieces)
    assert not any("▁" in piece[1:] for piece in pieces)


def test_bpe_is_the_same_each_time_and_keeps_to_its_size():
    texts = [unicodedata.normalize("NFKC", chr(code) * 2) for code in range(0x4E00, 0x4F00)]
    states = {train_bpe(texts, max_vocabulary=40, min_count=1) for _ in range(5)}
    assert len(states) == 1
    pieces = load_bpe(states.pop())[1]
    assert len(pieces) <= 40
    assert "一" in pieces and "\u4eff" not in pieces


@given(st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=40))
def test_bpe_gives_back_the_words_of_known_characters(text):
    tokenize, _ = load_bpe(train_bpe([text, text, "x"], max_vocabulary=500, min_count=2))
    joined = "".join(tokenize(text)).replace("▁", " ")
    assert joined.split() == text.split()


def test_bpe_of_a_hundred_thousand_characters():
    tokenize, _ = load_bpe(train_bpe(["好吃" * 100], max_vocabulary=50, min_count=2))
    assert "".join(tokenize("好吃" * 50_000)) == "▁" + "好吃" * 50_000


def test_bpe_state_that_is_none():
    with pytest.raises(DataError, match="the state of the byte-pair tokeniser cannot be read"):
        load_bpe('{"version": "1.0"}')
