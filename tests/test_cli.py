from __future__ import annotations

import json
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tidegate
from tidegate import jobs
from tidegate.cli import app
from tidegate.estimators.text_classifier import TextClassifier
from tiny_reviews import rows, write_csv, write_tiny

COMMANDS = [
    "train",
    "evaluate",
    "predict",
    "info",
    "validate",
    "recipes",
    "recipes list",
    "recipes copy",
    "tune",
    "augment",
    "fill-mask",
    "ensemble",
    "language",
    "language train",
    "language evaluate",
    "search",
    *(f"search {name}" for name in ("build", "query", "evaluate", "train")),
    "vectors",
    *(f"vectors {name}" for name in ("train", "neighbours", "analogy", "evaluate", "convert")),
]
# For processes that the tests start: a limit for one that hangs, far above what it takes.
PATIENCE = 120


def call(*arguments: object, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
    """Standard output and standard error of a command that must end with a code."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Path, str, str]:
    """The folder of a run, and what the command printed."""
    stdout, stderr = call("train", folder / "tiny.yaml", "--out", folder / "run")
    return folder / "run", stdout, stderr


@pytest.fixture(scope="module")
def model(trained: tuple[Path, str, str]) -> Path:
    return trained[0] / "model.tg"


# --- help and misuse


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str):
    stdout, _ = call(*command.split(), "--help")
    _, example = " ".join(stdout.split()).split("Example: ")
    assert f"tidegate {command.split()[0]} " in f"{example} "


def test_the_examples_of_help_are_commands_that_parse():
    from typer.main import get_command

    group: Any = get_command(app)
    with group.make_context("tidegate", ["info"]) as context:
        commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    leaves: dict[str, Any] = {}
    for name, command in commands.items():
        within = getattr(command, "commands", None)
        leaves |= {name: command} if within is None else {f"{name} {leaf}": one for leaf, one in within.items()}
    assert set(leaves) == {*COMMANDS} - {name for name in COMMANDS if hasattr(commands.get(name), "commands")}
    for name, command in leaves.items():
        words = shlex.split(command.epilog.split("tidegate ")[-1])[len(name.split()) :]
        command.make_context(name, words)


def test_version():
    assert call("--version")[0].strip() == f"tidegate {tidegate.__version__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "sentiment_en", "--epochs", "3"], "No such option: --epochs"),
        (["train", "sentiment_en", "--resume", "--overwrite"], "give one of the two"),
        (["train", "sentiment_en", "--verbose", "--quiet"], "give one of --verbose and --quiet"),
        (["evaluate", "model.tg"], "Missing argument 'DATA'"),
    ],
)
def test_misuse_ends_with_2(arguments: list[str], message: str):
    _, stderr = call(*arguments, code=2)
    assert message in " ".join(stderr.replace("│", " ").split())


def test_a_recipe_that_is_not_valid_ends_with_2_and_one_message(folder: Path):
    for command in (["train", "--out", str(folder / "never")], ["validate"]):
        path = folder / "tiny.yaml"
        stdout, stderr = call(*command, path, "--set", "model.hiden_size=9", "--set", "modle.cell=gru", code=2)
        assert stdout == ""
        first, second = stderr.strip().splitlines()
        assert first.startswith(
            "tidegate: --set model.hiden_size=9: model.hiden_size: unknown key. Did you mean 'hidden_"
        )
        assert second.startswith("--set modle.cell=gru: modle: unknown key. Did you mean 'model'?")
    assert not (folder / "never").exists()


# --- train


def test_training_prints_the_results_and_where_they_are(trained: tuple[Path, str, str]):
    run, stdout, stderr = trained
    facts = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    words = " ".join(stdout.split())
    assert "Tiny reviews" in words
    test = facts["test"]
    assert f"test accuracy {test['accuracy']:.4f} ± {test['standard_error']:.4f}" in words
    assert f"baseline accuracy {facts['baseline']['accuracy']:.4f}: TF-IDF of words and bigrams" in words
    for row in test["per_class"]:
        numbers = f"{row['precision']:.4f} {row['recall']:.4f} {row['f1']:.4f} {row['support']}"
        assert f"{row['label']} {numbers}" in words
    assert "a lovely great film" in words
    assert "dull [bold]and bad" in words
    assert f"Report {run / 'report.html'} Card {run / 'model_card.md'} Model {run / 'model.tg'}" in words
    assert f"read 80 train, 30 test texts; the run goes to {run}" in stderr
    assert "longer than max_tokens=6" in stderr
    # No terminal, no bar: a line an epoch shows that the run goes on.
    for entry in facts["history"]:
        assert f"epoch  {entry['epoch']}/2  loss {entry['train_loss']:.4f}" in stderr


def test_training_as_json_says_the_same(folder: Path, tmp_path: Path):
    out = tmp_path / "run"
    stdout, stderr = call("train", folder / "tiny.yaml", "--out", out, "--json", "-q", "--set", "training.max_epochs=1")
    found = json.loads(stdout)
    assert found["test"] == json.loads((out / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert found["model"] == str(out / "model.tg")
    assert found["epochs"] == 1
    assert found["predictions"][0]["text"] == "a lovely great film"
    assert stderr == ""
    _, stderr = call("train", folder / "tiny.yaml", "--out", out, code=1)
    assert stderr.startswith(f"tidegate: {out}: the folder already holds a run.")


def test_errors_end_with_1_and_debug_shows_the_traceback(folder: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "run"
    _, stderr = call("train", folder / "tiny.yaml", "--out", out, code=1)
    assert stderr.startswith(f"tidegate: {out}: the run's folder cannot be written: Not a directory")
    result = CliRunner().invoke(app, ["train", str(folder / "tiny.yaml"), "--out", str(out), "--debug"])
    assert isinstance(result.exception, tidegate.errors.TidegateError)  # pyright: ignore[reportAttributeAccessIssue]


def test_an_unforeseen_error_is_one_message_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(jobs, "train", broken)
    _, stderr = call("train", folder / "tiny.yaml", code=1)
    assert stderr.startswith("tidegate: RuntimeError: a defect\nThis error was not foreseen.")


def test_an_interruption_before_the_first_epoch_ends_with_130(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TextClassifier, "fit", interrupted)
    _, stderr = call("train", folder / "tiny.yaml", "--out", tmp_path / "run", "-q", code=130)
    assert stderr == "tidegate: interrupted\n"


# --- evaluate, info, validate, recipes


def test_evaluate_prints_the_metrics(model: Path, folder: Path):
    found = json.loads(call("evaluate", model, folder / "test.csv", "--json")[0])
    expected = json.loads((model.parent / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert found["metrics"] == expected
    words = " ".join(call("evaluate", model, folder / "test.csv")[0].split())
    assert words.startswith(f"accuracy {expected['accuracy']:.4f} ±")
    assert "label precision recall f1 support" in words


def test_evaluate_complains_of_data_and_models(model: Path, folder: Path, tmp_path: Path):
    bad = write_csv(tmp_path / "bad.csv", [("pos", "good"), ("mixed", "so so")])
    _, stderr = call("evaluate", model, bad, code=1)
    assert stderr.startswith("tidegate: bad.csv:3: the label 'mixed' is not one that the model was trained on")
    _, stderr = call("evaluate", tmp_path / "none.tg", bad, code=1)
    assert "none.tg: no such file" in stderr
    _, stderr = call("evaluate", folder / "test.csv", bad, code=1)
    assert "test.csv: expected a tidegate model (.tg), found a file that starts with b'labe'" in stderr
    _, stderr = call("evaluate", model, tmp_path / "bda.csv", code=1)
    assert "there is no such file or folder. Did you mean 'bad.csv'?" in stderr


def write_chinese(path: Path, examples: list[tuple[str, str]]) -> None:
    """A file separated by semicolons, in GB18030, with texts of Chinese characters."""
    spoken = {"the": "这", "film": "电影", "was": "是", "plot": "情节", "a": "一", "cast": "演员", "and": "和"}
    words = {"good": "好", "great": "棒", "lovely": "美", "bad": "坏", "awful": "糟", "dull": "闷"}
    texts = ["".join((spoken | words).get(word, word) for word in text.split()) for _, text in examples]
    lines = ["label;text", *(f"{label};{text}" for (label, _), text in zip(examples, texts, strict=True))]
    path.write_bytes(("\n".join(lines) + "\n").encode("gb18030"))


def test_chinese_reviews_in_gb18030_are_trained_by_recipe_and_judged_by_command(tmp_path: Path):
    recipe = write_tiny(tmp_path)
    write_chinese(tmp_path / "train.csv", rows(200, 1))
    write_chinese(tmp_path / "test.csv", rows(40, 2))
    keys = ["data.delimiter=;", "data.encoding=gb18030", "text.tokenizer=characters", "text.max_tokens=20"]
    keys += ["output.baseline=false", "training.max_epochs=4"]
    options = [word for key in keys for word in ("--set", key)]
    _, stderr = call("train", recipe, "--out", tmp_path / "never", *options[:2], *options[4:], code=1)
    assert "train.csv:2: expected UTF-8 text" in stderr
    assert stderr.strip().splitlines()[-1].endswith("(In the recipe: data.encoding, data.errors.)")
    found = json.loads(call("train", recipe, "--out", tmp_path / "run", *options, "--json")[0])
    assert found["test"]["accuracy"] > 0.9

    how = ["--delimiter", ";", "--encoding", "gb18030"]
    judged = json.loads(call("evaluate", found["model"], tmp_path / "test.csv", *how, "--json")[0])
    assert judged["metrics"] == found["test"]
    _, stderr = call("evaluate", found["model"], tmp_path / "test.csv", *how[:2], code=1)
    assert stderr.strip().endswith("(On the command line: --encoding, --errors.)")
    blurred = call("evaluate", found["model"], tmp_path / "test.csv", *how[:2], "--errors", "replace", "--json")[0]
    assert json.loads(blurred)["metrics"]["count"] == 40
    assert json.loads(blurred)["metrics"]["accuracy"] < found["test"]["accuracy"]
    _, stderr = call("evaluate", found["model"], "bundled:reviews_zh", *how, code=1)
    assert "delimiter=, encoding= has no effect on bundled data" in stderr


def test_evaluate_reads_other_quotes_and_tabs(model: Path, tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text("text\tlabel\n'good\tgreat'\tpos\n", encoding="utf-8")
    options = ["--delimiter", "\\t", "--quote", "'", "--json"]
    assert json.loads(call("evaluate", model, path, *options)[0])["metrics"]["count"] == 1
    path.write_text('text,label\n"good,pos\nbad,neg\n', encoding="utf-8")
    _, stderr = call("evaluate", model, path, code=1)
    assert "(On the command line: --quote.)" in stderr
    assert json.loads(call("evaluate", model, path, "--quote", "none", "--json")[0])["metrics"]["count"] == 2


def test_evaluate_reads_a_table_without_names(model: Path, folder: Path, tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text((folder / "test.csv").read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
    _, stderr = call("evaluate", model, path, code=1)
    assert stderr.strip().endswith("(On the command line: --header.)")
    judged = json.loads(call("evaluate", model, path, "--header", "label, text", "--json")[0])
    assert judged["metrics"] == json.loads((model.parent / "metrics.json").read_text(encoding="utf-8"))["test"]
    _, stderr = call("evaluate", model, path, "--header", "label,words", code=1)
    assert "there is no column 'text'; found 'label', 'words'." in stderr
    assert "--header" not in stderr
    lines = tmp_path / "data.jsonl"
    lines.write_text('{"text": "good", "label": "pos"}\n', encoding="utf-8")
    _, stderr = call("evaluate", model, lines, "--header", "label,text", "--errors", "replace", code=1)
    assert f"header= has no effect on {lines}, which is no CSV or TSV file; remove it (On the command" in stderr
    _, stderr = call("evaluate", model, "bundled:reviews_en", "--header", "label,text", code=1)
    assert "header= has no effect on bundled data; remove it" in stderr


def test_info_names_versions_instruction_set_and_backends():
    words = " ".join(call("info")[0].split())
    found = json.loads(call("info", "--json")[0])
    assert f"instruction set {found['native']['isa']} (of " in words
    assert f"threads {found['native']['threads']}" in words
    for name, version in found["versions"].items():
        assert f"{name} {version}" in words
    assert {"cell": "gru", "device": "cpu", "dtype": "float32", "backend": "native"}.items() <= found["backends"][
        0
    ].items()
    assert "gru cpu float32 native" in words


def call_without_torch(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.modules['torch'] = None; from tidegate.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_info_works_without_torch(tmp_path: Path):
    done = call_without_torch("info", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "instruction set" in done.stdout
    assert 'pip install "tidegate[train]"' in " ".join(done.stdout.split())


@pytest.mark.parametrize("arguments", [["train", "sentiment_en"], ["evaluate", "MODEL", "x.csv"], ["predict", "MODEL"]])
def test_what_needs_torch_says_which_extra_brings_it(model: Path, tmp_path: Path, arguments: list[str]):
    done = call_without_torch(*(str(model) if word == "MODEL" else word for word in arguments), folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("tidegate: this needs the package 'torch'")
    assert 'pip install "tidegate[train]"' in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_validate_says_what_it_found(folder: Path):
    stdout, _ = call("validate", folder / "tiny.yaml")
    assert stdout.splitlines() == [
        f"{folder / 'tiny.yaml'}: valid",
        f"  data.train: {folder / 'train.csv'}",
        f"  data.test: {folder / 'test.csv'}",
    ]
    found = json.loads(call("validate", folder / "tiny.yaml", "--set", "model.cell=lstm", "--json")[0])
    assert found["sets"]["cell"] == "lstm"
    _, stderr = call("validate", folder / "tiny.yaml", "--data-dir", folder / "none", code=2)
    assert stderr.startswith(f"tidegate: {folder / 'tiny.yaml'}:3: data.train: expected a file or folder, found none")


def test_recipes_are_listed_and_copied(tmp_path: Path):
    names = [item["name"] for item in json.loads(call("recipes", "list", "--json")[0])]
    assert {"imdb", "sentiment_en", "tagging_zh_words"} <= set(names)
    assert names == sorted(names)
    stdout, _ = call("recipes")
    assert call("recipes", "list")[0] == stdout
    assert [line for line in stdout.splitlines() if not line.startswith(" ")] == names
    target = tmp_path / "mine.yaml"
    stdout, _ = call("recipes", "copy", "sentiment_en", target)
    assert target.is_file()
    assert stdout.splitlines() == [str(target), f"Edit it, then: tidegate train {target}"]
    assert "there is a file of this name" in call("recipes", "copy", "sentiment_en", target, code=1)[1]
    assert "Did you mean 'imdb'?" in call("recipes", "copy", "imbd", code=2)[1]


# --- predict


def test_predict_gives_a_line_for_each_line(model: Path):
    data = "a lovely good film\n\nbad \udcff bad\r\n坏 坏".encode("utf-8", "surrogateescape")
    texts = ["a lovely good film", "", "bad \ufffd bad", "坏 坏"]
    estimator = tidegate.load(model)
    expected = estimator.predict_proba(texts)
    found = [json.loads(line) for line in call("predict", model, "--json", stdin=data)[0].splitlines()]
    assert [item["text"] for item in found] == texts
    assert [item["label"] for item in found] == estimator.predict(texts).tolist()
    for item, row in zip(found, expected, strict=True):
        assert [item["probabilities"][name] for name in ("neg", "pos")] == pytest.approx(row.tolist(), abs=1e-5)
    plain = call("predict", model, "-", stdin=data)[0]
    assert plain == "".join(f"{item['label']}\t{max(item['probabilities'].values()):.4f}\n" for item in found)


def test_predict_reads_a_file(model: Path, tmp_path: Path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"good\nbad \x00\n" + b"great " * 100_000 + b"\n")
    lines = call("predict", model, path)[0].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["pos", "neg", "pos"]
    path.write_bytes(b"")
    assert call("predict", model, path)[0] == ""
    assert "there is no such file" in call("predict", model, tmp_path / "none.txt", code=1)[1]
    assert "found a folder" in call("predict", model, tmp_path, code=1)[1]


# --- processes: pipes and signals


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "from tidegate.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background job ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended with the test, whatever comes."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_a_line_is_answered_before_the_next_is_sent_and_ctrl_c_ends_it(
    model: Path, processes: list[subprocess.Popen[bytes]]
):
    process = start("predict", model, stdin=subprocess.PIPE)
    processes.append(process)
    assert process.stdin is not None and process.stdout is not None
    for text, label in [(b"good great\n", b"pos"), (b"bad awful\n", b"neg")]:
        process.stdin.write(text)
        process.stdin.flush()
        assert select.select([process.stdout], [], [], PATIENCE)[0], "no answer"
        assert process.stdout.readline().split(b"\t")[0] == label
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert process.stderr is not None and process.stderr.read() == b"tidegate: interrupted\n"


def test_a_broken_pipe_ends_quietly(model: Path, tmp_path: Path, processes: list[subprocess.Popen[bytes]]):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"good film\n" * 20_000)
    process = start("predict", model, path, "--json")
    processes.append(process)
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["text"] == "good film"
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert process.stderr.read() == b""


def test_ctrl_c_in_training_keeps_the_best_and_ends_with_130(
    folder: Path, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
):
    run = tmp_path / "run"
    endless = ["--set", "training.max_epochs=100000", "--set", "training.patience=100000"]
    process = start("train", folder / "tiny.yaml", "--out", run, *endless)
    processes.append(process)
    limit = time.monotonic() + PATIENCE
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr.decode()
    assert stdout == b""
    message = stderr.decode().splitlines()[-1]
    assert message.startswith("tidegate: interrupted after ")
    assert f"--resume --out {run}" in message
    assert b"Traceback" not in stderr
    labels = [label for label, _ in rows(30, 2)]
    assert set(tidegate.load(run / "model.tg").predict([text for _, text in rows(30, 2)])) <= set(labels)

    resumed = call("train", folder / "tiny.yaml", "--out", run, "--resume", "-q")[0]
    assert "test accuracy" in resumed
    assert (run / "report.html").is_file()
