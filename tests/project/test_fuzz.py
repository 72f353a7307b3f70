"""Our own files, spoilt in thousands of ways: the right content or one clear line, nothing else.

A case takes a small world (a phantom, a run with its points, results, an index, a comparison, files of claims and
arms), alters **one** file of it, and lets the function that owns the file read it, inside the real `main` of the
command line. What is altered, and how, follows from the number of the case alone: bits flipped, bytes cut, entries
removed, types changed, numbers made huge or NaN, nesting, paths. Demanded are exit code 0 or 2, exactly one line of
error with 2, no traceback, no file written, and, where a checksum covers the file, the very content that was written.

2,000 cases run always (`CASES`); `pytest -m slow tests/project/test_fuzz.py` runs as many others as
`MEDRET_FUZZ_CASES` says (20,000 without it).
"""

import contextlib
import io
import json
import os
import re
import shutil
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import medret_nb.cli.main as cli
from medret_nb.cli.plan import Clock
from medret_nb.data.files import shipped_data, write_json
from medret_nb.data.runs import Run
from medret_nb.data.studies import StudySet
from medret_nb.data.tokens import load_tokenizer
from medret_nb.evaluation.results import Results, both_sides, evaluate
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.saving import load_weights
from medret_nb.methods.table import load_method
from medret_nb.phantom.records import phantom_settings
from medret_nb.phantom.truth_tables import load_truth
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.foreign import read_pair
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.search import Index, build_index
from medret_nb.training.arms import read_arms
from medret_nb.training.boards import Board
from medret_nb.training.checkpoints import load_checkpoint
from medret_nb.training.claims import load_claims
from medret_nb.training.compare import Comparison
from medret_nb.training.loop import TrainConfig, fit, make_optimiser
from medret_nb.views.notes import Notes

CASES = 2000
PARTS = 10  # tests, so that a failure names its tenth
SIZES = {"train": 10, "val": 2, "test": 8}
SHOWN = 12  # failures that are told


# ---------------------------------------------------------------------------------------------- the small world


def make_world(home: Path) -> Path:
    """A folder with one sound file of each kind."""
    world = home / "world"
    shutil.copytree(shipped_data("phantom-small"), world / "set")
    studies = small_set(world / "set")
    method = CLIP.create(CLIPConfig(dim=8, size=32, max_words=24))
    run = fit(method, studies, TrainConfig(epochs=1, batch_size=8), world / "run", progress=False)
    points = embed(load_method(run.folder), studies, "test", out=run.embeddings_folder, progress=False)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate(points, studies.split("test"), "exact", (1, 5), run.evaluation_folder, draws=20)
        build_index(points["text"], kind="hnsw").save(world / "index")
    write_rest(world)
    return world


def small_set(folder: Path) -> StudySet:
    """Ten, two and eight studies of the phantom in a folder, with some of their boxes, in its place."""
    studies = StudySet.load(folder).studies
    ids = [studies.loc[studies["split"] == split, "study_id"][:count] for split, count in SIZES.items()]
    part = StudySet.load(folder).select(pd.concat(ids))
    part.regions = part.regions.iloc[:200].reset_index(drop=True)
    part.save(folder)
    return StudySet.load(folder)


def write_rest(world: Path) -> None:
    """The files that take no model: claims, arms, a comparison, a board, notes, times."""
    shutil.copytree(shipped_data("results/claims"), world / "claims")
    shutil.copytree(shipped_data("results/methods"), world / "compared")
    (world / "arms.toml").write_text('[clip]\nmethod = "clip"\n[few]\nmethod = "clip"\ndim = 4\ngroup_texts = false\n')
    write_json({"image-to-text/s1": {"note": "a note", "tags": "odd"}}, world / "notes.json")
    write_json({"waiting": 0.4, "training": 12}, world / "times.json")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The small world, inside a home of its own: whatever appears in that home has escaped."""
    home = tmp_path_factory.mktemp("fuzz")
    (home / "elsewhere").mkdir()
    return make_world(home)


# ---------------------------------------------------------------------------------------------- who reads what


def read_run(world: Path) -> Any:
    """Settings, fingerprint and log of the run."""
    run = Run(world / "run")
    return run.config(), run.fingerprint(), run.log.to_dict("records")


def read_model(world: Path) -> Any:
    """The method of the run, and a question put to it."""
    method = load_method(world / "run")
    tokens, mask = method.prepare_text(["No pleural effusion."])
    return method.encode_text(tokens, mask).mu.shape


def read_weights(world: Path) -> Any:
    """The weights alone."""
    load_weights(SMALL["method"], world / "run" / "model.safetensors")


def read_set(world: Path) -> Any:
    """The StudySet."""
    studies = StudySet.load(world / "set")
    return studies.restricted, studies.notes, studies.studies["study_id"].tolist()


def see_set(world: Path) -> Any:
    """The StudySet with its overview, which looks into the cache of films too."""
    return len(StudySet.load(world / "set").overview())


def read_pixels(world: Path) -> Any:
    """The films from the cache."""
    studies = StudySet.load(world / "set")
    pixels = studies.pixels(32)
    return pixels.take(studies.images["image_id"].tolist()).sum()


def read_result(world: Path) -> Any:
    """An evaluation, printed."""
    found = Results.load(world / "run" / "evaluation" / "test" / "exact")
    return str(found), found.queries.to_json(), found.rankings.to_json()


def read_points(world: Path) -> Any:
    """Both sides of the embeddings."""
    folder = world / "run" / "embeddings"
    return [told_points(Embeddings.load(folder / f"test-{side}.parquet")) for side in ("image", "text")]


def told_points(points: Embeddings) -> Any:
    """All that embeddings say."""
    return points.ids.tolist(), points.study_ids.tolist(), points.mu.tolist(), sorted(points.meta.items())


def read_foreign(world: Path) -> Any:
    """Points of another program: what `medret evaluate` does without a model, up to the measuring."""
    folder = world / "run" / "embeddings"
    files = {side: [folder / f"test-{side}.parquet"] for side in ("image", "text")}
    return [len(side) for side in both_sides(read_pair(files, "test", SMALL["test"]))]


def read_index(world: Path) -> Any:
    """A search in the index."""
    index = Index.load(world / "index")
    return index.search(index.gallery, 3).ids.tolist()


def read_comparison(world: Path) -> Any:
    """The table of a comparison."""
    return Comparison.load(world / "compared").wide().to_string()


def read_board(world: Path) -> Any:
    """A printed board of claims."""
    return str(Board.load(world / "claims"))


def read_checkpoint(world: Path) -> Any:
    """What a training goes on from."""
    method = SMALL["method"]
    return load_checkpoint(world / "run", method, make_optimiser(method, TrainConfig()))


def read_notes(world: Path) -> Any:
    """Notes on failed queries."""
    return Notes(world / "notes.json", pd.DataFrame()).kept


@dataclass(frozen=True)
class Target:
    """A kind of file: where (a pattern), who reads it, how often, and whether a checksum covers all of its content."""

    pattern: str
    read: Any
    share: int
    sealed: bool = False


TARGETS = [
    Target("run/config.json", read_run, 6),
    Target("run/config.json", read_model, 3),
    Target("run/fingerprint.json", read_run, 5),
    Target("run/log.jsonl", read_run, 8),
    Target("run/tokenizer.json", lambda world: len(load_tokenizer(world / "run")), 3),
    Target("run/tokenizer_config.json", lambda world: len(load_tokenizer(world / "run")), 2),
    Target("run/model.safetensors", read_weights, 3),
    Target("run/checkpoints/*/state.json", read_checkpoint, 5),
    Target("run/checkpoints/*/*.safetensors", read_checkpoint, 2),
    Target("run/evaluation/*/*/metrics.json", read_result, 8),
    Target("run/evaluation/*/*/*.parquet", read_result, 6, sealed=True),
    Target("run/embeddings/*.parquet", read_points, 8, sealed=True),
    Target("run/embeddings/*.parquet", read_foreign, 4),
    Target("set/dataset.json", read_set, 4),
    Target("set/[sir]*.parquet", read_set, 4),
    Target("set/[sir]*.parquet", see_set, 2),
    Target("set/phantom.json", lambda world: phantom_settings(world / "set"), 4),
    Target("set/[tvsa]*.parquet", lambda world: len(load_truth(SMALL["set"]).scenes), 4),
    Target("set/pixels-*.json", see_set, 2),
    Target("set/pixels-*", read_pixels, 2, sealed=True),
    Target("index/*", read_index, 5, sealed=True),
    Target("compared/comparison.json", read_comparison, 3),
    Target("compared/*.csv", read_comparison, 3),
    Target("claims/board.json", read_board, 5),
    Target("claims/claims.toml", lambda world: len(load_claims(world / "claims" / "claims.toml")), 6),
    Target("arms.toml", lambda world: len(read_arms(world / "arms.toml")), 4),
    Target("notes.json", read_notes, 3),
    Target("times.json", lambda world: str(Clock(1, world / "times.json")), 3),
]
SMALL: dict[str, Any] = {}  # what readers need beside the file: a method, the test split


# ---------------------------------------------------------------------------------------------- how files are spoilt

WRONG = [
    None,
    True,
    "x",
    "",
    [],
    {},
    [[]],
    -1,
    0,
    1.5,
    1e30,
    10**30,
    -(10**15),
    65_537,
    "../../elsewhere/x",
    "/elsewhere/x",
    "long " * 20_000,
    "\u2028\x1b[31m",
    [{"x": None}],
]
RAW = ["NaN", "Infinity", "1e999", "9" * 5000, "[" * 5000 + "]" * 5000, '"\\ud800"', '{"a": 1, "a": 2}', "["]


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three bits turned."""
    spoilt = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        spoilt[rng.integers(len(spoilt))] ^= 1 << rng.integers(8)
    return bytes(spoilt)


def shift(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, cut out, doubled, zeroed, emptied or made longer."""
    a, b = sorted(rng.integers(0, len(data) + 1, 2))
    ways = [
        data[:a],
        data[:a] + data[b:],
        data[:b] + data[a:],
        data[:a] + bytes(b - a) + data[b:],
        b"",
        data + rng.bytes(20),
        data[:a] + b"\xff\xfe" + data[a:],
    ]
    return ways[rng.integers(len(ways))]


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all entries within records and lists, of long lists only some."""
    entries: list[tuple] = []
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))[:20]
    found = []
    for key, inner in entries:
        found += [(*path, key), *places(inner, (*path, key))]
    return found


def respell(value: Any, rng: np.random.Generator) -> str:
    """JSON with one entry removed, renamed, or of another kind."""
    found = places(value)
    mark = "MARK-7d1f"
    if not found or rng.random() < 0.05:
        return json.dumps(WRONG[rng.integers(len(WRONG))])
    path = found[rng.integers(len(found))]
    place = value
    for step in path[:-1]:
        place = place[step]
    way = rng.random()
    if way < 0.2:
        del place[path[-1]]
        return json.dumps(value)
    if way < 0.3 and isinstance(place, dict):
        place[str(WRONG[rng.integers(len(WRONG))])] = place.pop(path[-1])
        return json.dumps(value)
    if way < 0.5:
        place[path[-1]] = mark
        return json.dumps(value).replace(f'"{mark}"', RAW[rng.integers(len(RAW))])
    place[path[-1]] = WRONG[rng.integers(len(WRONG))]
    return json.dumps(value)


def spoil_json(data: bytes, rng: np.random.Generator) -> bytes:
    """A JSON file with something else in it."""
    return respell(json.loads(data), rng).encode()


def spoil_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """A line of JSON lines with something else in it."""
    lines = data.decode().splitlines()
    number = rng.integers(len(lines))
    lines[number] = respell(json.loads(lines[number]), rng)
    return ("\n".join(lines) + "\n").encode()


def spoil_toml(data: bytes, rng: np.random.Generator) -> bytes:
    """A value of a TOML file replaced, or a line left out."""
    lines = data.decode().splitlines()
    number = rng.integers(len(lines))
    values = ["5", "inf", "nan", "true", "'x'", "[]", "{}", "1979-05-27", "-1", "1e400", "9" * 5000, "[" * 3000]
    if "=" in lines[number] and rng.random() < 0.8:
        lines[number] = f"{lines[number].split('=')[0]}= {values[rng.integers(len(values))]}"
    else:
        lines[number] = ""
    return "\n".join(lines).encode()


def spoil_csv(data: bytes, rng: np.random.Generator) -> bytes:
    """A cell of a CSV file replaced."""
    lines = data.decode().splitlines()
    number = rng.integers(min(len(lines), 30))
    cells = lines[number].split(",")
    cells[rng.integers(len(cells))] = ["x", "", "nan", "1e999", "=1+1", '"', "a,b"][rng.integers(7)]
    lines[number] = ",".join(cells)
    return "\n".join(lines).encode()


def other_column(column: pa.ChunkedArray, rng: np.random.Generator) -> pa.Array:
    """A column of the same length that holds other things."""
    n = len(column)
    ways = [
        pa.nulls(n),
        pa.array(["x"] * n),
        pa.array([1e300] * n),
        pa.array([float("nan")] * n),
        pa.array([-1] * n, pa.int64()),
        pa.array([[1.0, 2.0]] * n),
        pa.array([True] * n),
        pa.array([b"\xff"] * n),
        pa.array([{"a": 1}] * n),
        pa.array(["../../elsewhere/x"] * n),
    ]
    return ways[rng.integers(len(ways))]


def spoil_table(data: bytes, rng: np.random.Generator) -> bytes:
    """A Parquet file without a column, with another, with other rows, or with other metadata."""
    table = pq.read_table(io.BytesIO(data))
    column = int(rng.integers(table.num_columns))
    name = table.column_names[column]
    way = rng.random()
    if way < 0.2:
        table = table.remove_column(column)
    elif way < 0.5:
        table = table.set_column(column, name, other_column(table[name], rng))
    elif way < 0.6:
        table = table.slice(0, int(rng.integers(0, 3)))
    elif way < 0.7:
        table = pa.concat_tables([table, table.slice(0, 1)])
    else:
        words = [key for key in (table.schema.metadata or {}) if key not in (b"pandas", b"ARROW:schema")]
        key = words[rng.integers(len(words))] if words else b"split"
        value = str([*WRONG, *RAW, "nan", "inf", "-inf", "mls"][rng.integers(len(WRONG) + len(RAW) + 4)])
        value = value.encode(errors="replace")
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), key: value})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


BY_SUFFIX = {
    ".json": spoil_json,
    ".jsonl": spoil_lines,
    ".toml": spoil_toml,
    ".csv": spoil_csv,
    ".parquet": spoil_table,
}


def spoil(file: Path, rng: np.random.Generator) -> bytes:
    """The content of a file, altered as its kind allows."""
    data = file.read_bytes()
    own = BY_SUFFIX.get(file.suffix)
    ways = [flip, shift] if own is None else [flip, shift, own, own, own, own]
    return ways[rng.integers(len(ways))](data, rng)


def put(file: Path, rng: np.random.Generator) -> None:
    """Alter a file; now and then it is gone, or a folder in its place."""
    content = spoil(file, rng)
    way = rng.random()
    if way > 0.03:
        file.write_bytes(content)
        return
    file.unlink()
    if way < 0.01:
        file.mkdir()


@contextlib.contextmanager
def put_back(file: Path):
    """Afterwards the file is as it was; of a cache, which is built anew when it is damaged, all files."""
    files = sorted(file.parent.glob("pixels-*")) if file.name.startswith("pixels-") else [file]
    before = {path: path.read_bytes() for path in files}
    try:
        yield
    finally:
        for path, content in before.items():
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)


# ---------------------------------------------------------------------------------------------- one case


class Work:
    """A command whose work is to read; what it read stays in `found`."""

    def __init__(self, read, world: Path):
        self.read, self.world, self.found = read, world, None

    def run(self) -> None:
        """Read."""
        self.found = self.read(self.world)


def obey(work: Work, monkeypatch) -> tuple[Any, str]:
    """What `medret` gives for that work: the exit code, and what it says on stderr."""
    said = io.StringIO()
    with monkeypatch.context() as patch, contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(cli, "read_arguments", lambda *words: work)
        try:
            code = cli.main(["tour"])
        except BaseException as error:
            return f"{type(error).__name__} escaped: {traceback.format_exc()[-600:]}", said.getvalue()
    return code, said.getvalue()


def names(folder: Path) -> set[str]:
    """The paths of all files below a folder."""
    return {os.path.join(place, name) for place, _, files in os.walk(folder) for name in files}


def fault_of(code: Any, said: str) -> str:
    """What is wrong with an answer, nothing if all is well."""
    lines = [line for line in said.splitlines() if line.startswith("medret: ")]
    if code not in (0, 2):
        return f"code {code}: {said[-700:]}"
    if "Traceback" in said:
        return f"a traceback: {said[-700:]}"
    if len(lines) != (code == 2):
        return f"{len(lines)} lines of error with code {code}: {said[-300:]}"
    if lines and (len(lines[0]) > 1100 or re.search(r"[\x00-\x1f\x7f\u2028]", lines[0])):
        return f"a line of {len(lines[0])} letters, or one that steers a terminal"
    return ""


def chosen(number: int, world: Path) -> tuple[Target, Path, np.random.Generator]:
    """Kind, file and generator of a case."""
    rng = np.random.default_rng([20_261, number])
    shares = np.array([target.share for target in TARGETS], float)
    target = TARGETS[rng.choice(len(TARGETS), p=shares / shares.sum())]
    files = sorted(file for file in world.glob(target.pattern) if file.is_file())
    return target, files[rng.integers(len(files))], rng


def run_case(number: int, world: Path, whole: dict, monkeypatch) -> str:
    """Do one case and put the file back; returns what is wrong, nothing if all is well."""
    target, file, rng = chosen(number, world)
    with put_back(file):
        put(file, rng)
        work = Work(target.read, world)
        code, said = obey(work, monkeypatch)
    if fault := fault_of(code, said):
        return fault
    if code == 0 and target.sealed and work.found != whole[target.read]:
        return "other content was taken for the right one"
    if code == 2 and str(file.name) not in said and file.parent.name not in said:
        return f"the file is not named: {said[-300:]}"
    return ""


def run_cases(numbers: range, world: Path, monkeypatch) -> None:
    """Do these cases; fails with the first dozen that are wrong."""
    monkeypatch.chdir(world.parent / "elsewhere")
    monkeypatch.delenv("MEDRET_DEBUG", raising=False)
    SMALL.setdefault("method", CLIP.create(CLIPConfig(dim=8, size=32, max_words=24)))
    SMALL.setdefault("set", StudySet.load(world / "set"))
    SMALL.setdefault("test", SMALL["set"].split("test"))
    whole = {}
    for target in TARGETS:
        work = Work(target.read, world)
        assert obey(work, monkeypatch) == (0, ""), f"{target.pattern}: not even the sound file is read"
        whole[target.read] = work.found
    there = names(world.parent)
    failures = []
    for number in numbers:
        fault = run_case(number, world, whole, monkeypatch)
        if not fault and names(world.parent) != there:
            fault = f"written: {sorted(names(world.parent) ^ there)[:3]}"
            there = names(world.parent)
        if fault:
            target, file, _ = chosen(number, world)
            failures.append(f"case {number}, {file.relative_to(world)} ({target.read.__name__}): {fault}")
    assert not failures, f"{len(failures)} of {len(numbers)} cases:\n" + "\n".join(failures[:SHOWN])


@pytest.mark.parametrize("part", range(PARTS))
def test_our_files_give_the_right_content_or_one_line(world, monkeypatch, part):
    run_cases(range(part * CASES // PARTS, (part + 1) * CASES // PARTS), world, monkeypatch)


@pytest.mark.slow
def test_many_more(world, monkeypatch):
    more = int(os.environ.get("MEDRET_FUZZ_CASES", 20_000))
    run_cases(range(CASES, CASES + more), world, monkeypatch)
