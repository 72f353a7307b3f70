"""The command line as a user types it: real processes, real folders, one line for each mistake."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
from support import child_environment

from medret_nb.cli.main import (
    COMMANDS,
    commands_overview,
    main,
    one_line,
    options_of,
    read_arguments,
    split_command,
)
from medret_nb.cli.search import Search
from medret_nb.data.devices import DEVICE_VARIABLE
from medret_nb.data.files import DataError

WRONG = {
    "no such command": (["trian"], ["'trian'", "train"]),
    "unknown option": (["data", "phantom", "OUT", "--sise", "3"], ["--sise", "medret data phantom --help"]),
    "not a number": (["data", "phantom", "OUT", "--studies", "many"], ["--studies", "many"]),
    "nothing given": (["train"], ["--data", "--out"]),
    "no such method": (["train", "clap", "--data", "OUT", "--out", "RUN"], ["clap", "clip"]),
    "unknown split": (["data", "phantom", "OUT", "--counts", "nonsense", "3"], ["nonsense", "train, val, test"]),
    "negative studies": (["data", "phantom", "OUT", "--studies", "-3"], ["-3"]),
    "size too small": (["data", "phantom", "OUT", "--size", "2"], ["size", "2"]),
    "no such source": (["data", "csv", "NOWHERE", "OUT"], ["NOWHERE"]),
    "no such archive": (["data", "openi", "NOWHERE", "OUT"], ["NOWHERE"]),
    "no such DICOM folder": (["data", "dicom", "NOWHERE", "OUT"], ["NOWHERE"]),
    "no such MIMIC folder": (["data", "mimic", "NOWHERE", "OUT"], ["NOWHERE"]),
    "unknown labeller": (["data", "mimic", "NOWHERE", "OUT", "--labeller", "ann"], ["labeller", "ann"]),
    "no such studies": (["train", "clip", "--data", "NOWHERE", "--out", "RUN"], ["NOWHERE"]),
    "zero epochs": (["train", "clip", "--data", "OUT", "--out", "RUN", "--epochs", "0"], ["epochs", "0"]),
    "no run": (["embed", "NOWHERE"], ["NOWHERE", "no run"]),
    "no run to evaluate": (["evaluate", "NOWHERE"], ["NOWHERE"]),
    "unknown protocol": (["evaluate", "NOWHERE", "--protocol", "fuzzy"], ["fuzzy"]),
    "no run to search": (["search", "NOWHERE", "--text", "x"], ["NOWHERE"]),
    "no question": (["search", "NOWHERE"], ["--image", "--text"]),
    "no such thing to find": (["search", "NOWHERE", "--text", "x", "--find", "socks"], ["--find", "socks"]),
    "k below one": (["search", "NOWHERE", "--text", "x", "-k", "0"], ["-k", "0"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line(capsys, monkeypatch, tmp_path, case, refused):
    words, expected = WRONG[case]
    monkeypatch.chdir(tmp_path)
    code = main(words)
    refused(subprocess.CompletedProcess(words, code, *capsys.readouterr()), *expected)
    assert not list(tmp_path.iterdir()), "a refused command left files behind"


@pytest.mark.parametrize("case", ["no such command", "unknown option", "no such studies", "k below one"])
def test_a_mistake_is_one_line_in_a_shell(medret, tmp_path, case, refused):
    words, expected = WRONG[case]
    refused(medret(*words, cwd=tmp_path), *expected)


def test_mistakes_on_a_real_run(way, capsys, tmp_path, refused):
    run = way[0] / "run"
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")

    def typed(*words):
        code = main([str(word) for word in words])
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    refused(typed("search", run, "--image", tmp_path / "empty.png"), "empty.png")
    refused(typed("search", run, "--text", "  "), "word")
    refused(typed("embed", run, "--split", "tset"), "tset", "train")
    refused(typed("evaluate", run, "--k", 0), "0")
    refused(typed("embed", run, "--data", tmp_path), str(tmp_path))
    refused(typed("embed", tmp_path / "broken", "--data", way[0] / "studies"), "config.json")


def test_debug_shows_the_traceback(medret):
    done = medret("embed", "nowhere", MEDRET_DEBUG="1")
    assert done.returncode not in (0, 2) and "Traceback" in done.stderr and "DataError" in done.stderr


class Raises:
    "A command that raises."

    def __init__(self, error):
        self.error = error

    def run(self):
        raise self.error


@pytest.mark.parametrize(
    "error, code, said",
    [
        (DataError("x.json: wrong"), 2, "medret: x.json: wrong"),
        (OSError(13, "Permission denied", "x.json"), 2, "medret: x.json: Permission denied"),
        (MemoryError("12 TB"), 2, "medret: 12 TB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "can't allocate memory"),
        (TypeError("of ours"), 1, "medret: a fault of medret itself, TypeError: of ours (cli/main.py, line "),
        (KeyError("of ours"), 1, "MEDRET_DEBUG=1"),
        (KeyboardInterrupt(), 130, "medret: interrupted"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_mistakes_and_faults_are_kept_apart(monkeypatch, capsys, error, code, said):
    monkeypatch.delenv("MEDRET_DEBUG", raising=False)
    monkeypatch.setattr("medret_nb.cli.main.read_arguments", lambda *words: Raises(error))
    monkeypatch.setattr("medret_nb.cli.main.leave_pipe", lambda: 141)  # pytest's own stream stays open
    assert main(["tour"]) == code
    shown = capsys.readouterr().err
    assert said in shown and len(shown.splitlines()) == bool(said) and "Traceback" not in shown


class Prints:
    "A command that prints what a foreign file says."

    def run(self):
        print("label \x1b[2J\x1b]0;title\x07\r\u2028here\n\tnext")
        print("warned \x1b[31m", file=sys.stderr)
        warnings.warn("a label \x1b[2J", stacklevel=1)


def test_no_command_steers_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr("medret_nb.cli.main.read_arguments", lambda *words: Prints())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *place, **more: print(message, file=sys.stderr)
        assert main(["tour"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "label  [2J ]0;title   here\n\tnext\n"
    assert shown.err == "warned  [31m\na label  [2J\n"


def test_a_line_is_never_long(monkeypatch, capsys):
    monkeypatch.delenv("MEDRET_DEBUG", raising=False)
    error = DataError("x.json: " + "wrong " * 200_000 + "end")
    monkeypatch.setattr("medret_nb.cli.main.read_arguments", lambda *words: Raises(error))
    assert main(["tour"]) == 2
    shown = capsys.readouterr().err
    assert len(shown) < 1100 and shown.startswith("medret: x.json: wrong") and shown.endswith("end\n")


@pytest.mark.parametrize(
    "typed, code", [("--help | true", 141), ("train clip --help | true", 141), ("--help >&-", 0), ("--version >&-", 0)]
)
def test_an_output_that_is_closed_is_no_fault(tmp_path, typed, code):
    start = f"{sys.executable} -c 'import sys; from medret_nb.cli.main import main; sys.exit(main())'"
    pipe = f"{start} {typed.split('|')[0]} | true; echo code ${{PIPESTATUS[0]}} >&2"
    line = pipe if "|" in typed else f"{start} {typed}; echo code $? >&2"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=child_environment(), cwd=tmp_path)
    assert done.stderr.strip() in (f"code {code}", "code 0"), done.stderr  # true may end after all was written


def test_an_output_that_knows_ascii_alone_shows_all(tmp_path):
    code = "from medret_nb.cli.main import steady_streams; steady_streams(); print('M\xfcller')"
    environment = child_environment(PYTHONIOENCODING="ascii")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "M\\xfcller\n", done


def test_help_is_complete_and_loads_nothing_slow(medret):
    done = medret("--help")
    assert done.returncode == 0 and all(f"medret {name}" in done.stdout for name in COMMANDS)
    slow = {"torch", "transformers", "faiss", "pandas", "matplotlib"}
    code = f"import sys, medret_nb.cli.main; print(sorted({slow} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    assert not set(json.loads(loaded.stdout.replace("'", '"'))) & {"torch", "transformers", "faiss", "matplotlib"}, (
        loaded.stdout
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        read_arguments(name, ["--help"])
    assert stop.value.code == 0
    assert f"usage: medret {name}" in capsys.readouterr().out


def test_version(medret):
    import medret_nb

    assert medret("--version").stdout.strip() == medret_nb.__version__


def test_interrupt_gives_130(tmp_path):
    code = "import sys; from medret_nb.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "data", "phantom", str(tmp_path / "out"), "--studies", "5000"]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(OMP_NUM_THREADS="1"),
        cwd=tmp_path,
    )
    until = time.monotonic() + 90
    while not (tmp_path / "out").exists() and time.monotonic() < until and running.poll() is None:
        time.sleep(0.2)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130 and "medret: interrupted" in stderr and "Traceback" not in stderr
    assert not (tmp_path / "out" / "studies.parquet").exists(), "half a StudySet must not look like a whole one"


def test_words_are_split_into_command_and_arguments():
    assert split_command(["data", "openi", "x"]) == ("data openi", ["x"])
    assert split_command(["tour"]) == ("tour", [])
    with pytest.raises(DataError, match="did you mean data csv"):
        split_command(["data", "cvs"])
    assert "medret data csv" in commands_overview("data") and "medret train" not in commands_overview("data")


def test_frame_of_an_error_becomes_one_line():
    framed = [
        "╭─ Value error ─────────╮",
        "│ Error parsing --k: no │",
        "│ number                │",
        "│ ───────────────────── │",
        "│ For full helptext     │",
        "╰───────────────────────╯",
    ]
    frame = "\n".join(framed)
    assert one_line(frame) == "Value error: Error parsing --k: no number"
    unframed = [
        " Value error           ",
        " --------------------- ",
        " Error parsing --k: no ",
        " number                ",
        " --------------------- ",
        " For full helptext     ",
        "",
    ]
    bare = "\n".join(unframed)
    assert one_line(bare) == "Value error: Error parsing --k: no number"


@pytest.mark.parametrize("name", ["search", "evaluate", "train", "report"])
def test_help_shows_an_option_that_may_be_left_out_by_what_it_takes(name, capsys):
    "`--data PATH`, not `--data {None}|PATH`; and choices without a None among them."
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "{None" not in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_what_runs_a_model_takes_a_device(name):
    "By one option of one name, wherever the command keeps it."
    asks = name not in ("completion", "adjudicate") and not name.startswith(("data ", "course "))
    assert ("--device" in options_of(name)) == asks


@pytest.mark.parametrize("words", [["search", "RUN", "--text", "a"], ["tour", "OUT"], ["evaluate", "RUN"]])
@pytest.mark.parametrize("device, why", [("gpu", "is none of auto, cpu"), ("cuda:99", "is not there")])
def test_a_wrong_device_is_one_line(words, device, why, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--device", device]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"medret: device: '{device}' {why}")
    assert not list(tmp_path.iterdir())


def test_the_device_holds_for_the_command_alone(monkeypatch):
    monkeypatch.setenv(DEVICE_VARIABLE, "mps")
    seen = []
    monkeypatch.setattr(Search, "run", lambda self: seen.append(os.environ[DEVICE_VARIABLE]))
    assert main(["search", "RUN", "--device", "cpu"]) == 0 and main(["search", "RUN"]) == 0
    assert seen == ["cpu", "mps"] and os.environ[DEVICE_VARIABLE] == "mps"


def test_the_settings_of_a_training_hold_its_device():
    words = ["clip", "--data", "D", "--out", "O", "--device", "cpu"]
    assert read_arguments("train", words).wanted_device == "cpu"
    assert read_arguments("data phantom", ["OUT"]).wanted_device is None
