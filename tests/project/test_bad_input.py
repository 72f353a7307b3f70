"""Bad input is refused in one line, or counted, and nothing is lost.

One table of cases, each refused with one line that says what and where, or counted in a line.

A case is (name, how it is made and called, words of the one line, what must happen): `refused` raises in process,
`counted` goes on and says how many, `read` is unusual and fine, `typed` is a command in a shell that ends with exit
code 2, and `typed, counted` one that ends well and says how many. Every case begins with an older StudySet in
`w.out`, which must survive a refusal as it was.
"""

import contextlib
import gzip
import io
import os
import re
import resource
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from safetensors.torch import load_file, save_file

from medret_nb.data.dicom import from_dicom
from medret_nb.data.dicom_film import read_dicom
from medret_nb.data.files import DataError, file_checksum, read_json, shipped_data, write_json
from medret_nb.data.images import read_image
from medret_nb.data.locks import alone_in
from medret_nb.data.runs import Run
from medret_nb.data.sources import from_csv, from_openi
from medret_nb.data.splits import assign_splits
from medret_nb.data.studies import StudySet
from medret_nb.data.tokens import save_tokenizer, train_tokenizer
from medret_nb.evaluation.results import Results, evaluate
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.hub import HubTwoTower
from medret_nb.methods.table import load_method, load_plugin
from medret_nb.phantom.drawn import openi_with_drawn_films
from medret_nb.phantom.phantom import make_phantom
from medret_nb.phantom.truth_tables import load_truth
from medret_nb.retrieval.embeddings import embed, embed_films, embed_texts
from medret_nb.retrieval.foreign import read_points
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.search import Index, build_index
from medret_nb.training.loop import TrainConfig, fit

GREY = np.add.outer(np.arange(40) * 3, np.arange(30) * 4).astype(np.uint8)
TRAINING = TrainConfig(epochs=1, batch_size=8)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def new_method():
    return CLIP.create(CLIPConfig(dim=16, size=32, max_words=32))


@pytest.fixture(scope="module")
def made(small_phantom, tmp_path_factory):
    "What all cases share and none may change: a phantom, a run, its points, an older StudySet."
    home = tmp_path_factory.mktemp("shared")
    run = fit(new_method(), small_phantom, TRAINING, home / "run", progress=False).folder
    points = embed(load_method(run), small_phantom, "test", out=home / "run" / "embeddings", progress=False)
    StudySet(
        pd.DataFrame({"study_id": ["old"], "note": ["An older set."]}),
        pd.DataFrame(columns=["image_id", "study_id", "path"]),
        info={"name": "old"},
    ).save(home / "old")
    return SimpleNamespace(phantom=small_phantom, run=run, points=points, old=home / "old")


class Workspace:
    "A fresh folder for one case, and the means to make bad things in it."

    def __init__(self, home: Path, made):
        self.home, self.phantom, self.run, self.points = home, made.phantom, made.run, made.points
        self.out = Path(shutil.copytree(made.old, home / "out"))

    def write(self, name, content):
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def picture(self, name="film.png", array=GREY, mode=None, **options):
        image = Image.fromarray(array)
        (image.convert(mode) if mode else image).save(self.home / name, **options)
        return self.home / name

    def spoilt(self, change, name="film.png"):
        "A good picture whose bytes are changed."
        path = self.picture(name)
        path.write_bytes(change(path.read_bytes()))
        return path

    def bomb(self, side):
        "A PNG whose header claims side x side pixels, with a right checksum."
        header = b"IHDR" + struct.pack(">II", side, side)
        return self.spoilt(
            lambda data: (
                data[:12] + header + data[24:29] + struct.pack(">I", zlib.crc32(header + data[24:29])) + data[33:]
            )
        )

    def table(self, studies, images=None, regions=None, save=True):
        "Import CSV tables over the older set."
        for name, text in (("studies", studies), ("images", images), ("regions", regions)):
            if text is not None:
                self.write(f"in/{name}.csv", text)
        return from_csv(self.home / "in", self.out if save else None)

    def films(self, broken=()):
        "A StudySet of six films; `broken` maps a number to what happens to its file."
        for k in range(6):
            self.picture(f"f{k}.png")
        for k, change in dict(broken).items():
            change(self.home / f"f{k}.png")
        texts = [f"Film number {k}." for k in range(6)]
        return StudySet(
            pd.DataFrame({"study_id": list("abcdef"), "findings": texts}),
            pd.DataFrame(
                {"image_id": list("abcdef"), "study_id": list("abcdef"), "path": [f"f{k}.png" for k in range(6)]}
            ),
            folder=self.home,
        )

    def broken_run(self, change):
        "A copy of the run, changed. Its settings vouch for no file, so that it is the change itself which is met."
        folder = Path(shutil.copytree(self.run, self.home / "run"))
        settings = read_json(folder / "config.json")
        settings.pop("files")
        write_json(settings, folder / "config.json")
        change(folder)
        return folder

    def settings(self, **changes):
        "A copy of the run with other settings in config.json."
        return self.broken_run(
            lambda folder: write_json(read_json(folder / "config.json") | changes, folder / "config.json")
        )

    def archive(self, members, mode="w:gz"):
        with tarfile.open(self.home / "reports.tgz", mode) as archive:
            for name, content in members.items():
                header = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
                data = content.encode() if isinstance(content, str) else b""
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
        return self.home / "reports.tgz"

    def openi(self, members):
        return from_openi(self.archive(members), self.home / "new", quiet=True)

    @property
    def new(self):
        return self.home / "new"

    def lined(self, width):
        "The bytes of a PNG of one line, whose header is right."
        header = b"IHDR" + struct.pack(">II", width, 1) + self.picture().read_bytes()[24:29]
        data = self.picture().read_bytes()
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]

    def pipe(self, name):
        (self.home / name).parent.mkdir(exist_ok=True)
        os.mkfifo(self.home / name)
        return self.home / name

    def circle(self, name):
        return self.endless(name, self.home / name)

    def endless(self, name, target="/dev/zero"):
        (self.home / name).parent.mkdir(exist_ok=True)
        (self.home / name).symlink_to(target)
        return self.home / name

    def flipped(self, members):
        path = self.archive(members)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        return from_openi(path, self.new)

    def shortened(self, members):
        path = self.archive(members)
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[: 20 * 1024]))
        return from_openi(path, self.new)

    def dicom(self, name="in/a.dcm", drop=(), **tags):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = data.StudyInstanceUID = (
            f"1.2.{zlib.crc32(name.encode())}"
        )
        values = (
            dict(
                Modality="DX",
                SamplesPerPixel=1,
                PixelRepresentation=0,
                BitsAllocated=8,
                BitsStored=8,
                HighBit=7,
                Rows=40,
                Columns=30,
                PhotometricInterpretation="MONOCHROME2",
                PixelData=GREY.tobytes(),
                BurnedInAnnotation="NO",
            )
            | tags
        )
        for tag, value in values.items():
            if tag not in drop:
                setattr(data, tag, value)
        (self.home / name).parent.mkdir(exist_ok=True, parents=True)
        data.save_as(self.home / name, enforce_file_format=True)
        return self.home / name

    def parquet(self, **columns):
        "A file of embeddings of another program."
        pd.DataFrame({"id": ["a", "b"], "study_id": ["a", "b"], "mu": [[1.0, 0.0], [0.0, 1.0]]} | columns).to_parquet(
            self.home / "points.parquet"
        )
        return self.home / "points.parquet"

    def foreign(self, change):
        "A folder with embeddings of the test split and no model; `change` spoils the film's points (N, D)."
        for kind, side in self.points.items():
            mu = side.mu.astype(float).copy()
            if kind == "image":
                mu = change(mu)
            (self.home / "foreign" / "embeddings").mkdir(parents=True, exist_ok=True)
            pd.DataFrame({"id": side.ids, "study_id": side.study_ids, "mu": list(mu)}).to_parquet(
                self.home / "foreign" / "embeddings" / f"test-{kind}.parquet"
            )
        return self.home / "foreign"


def points(mu):
    return Embeddings([f"i{k}" for k in range(len(mu))], [f"s{k}" for k in range(len(mu))], np.array(mu, float))


def pickled(path):
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    return path


def narrow(side):
    return Embeddings(side.ids, side.study_ids, side.mu[:, :4])


def with_nan(mu):
    mu[1, 0] = np.nan
    return mu


def report(n, text="Clear lungs."):
    return f'<eCitation><uId id="CXR{n}"/><AbstractText Label="FINDINGS">{text}</AbstractText></eCitation>'


def link(name, kind):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, "/etc/hostname"
    return header


def cut(folder, name, share=0.5):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(share * len(data))])


def other_words(folder):
    "A tokenizer with more pieces than the text encoder knows."
    words = ["".join(np.random.default_rng(k).choice(list("abcdefghijklmnop"), 6)) for k in range(3000)]
    save_tokenizer(train_tokenizer(words, 4000), folder)


def far_words(folder):
    "A tokenizer of few pieces, one of which has a number far beyond them."
    held = read_json(folder / "tokenizer.json")
    held["model"]["vocab"]["zzz"] = 5_000_000
    write_json(held, folder / "tokenizer.json")


def empty_vocabulary(folder):
    "A tokenizer that keeps its special pieces alone."
    held = read_json(folder / "tokenizer.json")
    held["model"]["vocab"] = {}
    write_json(held, folder / "tokenizer.json")


def in_tokenizer(**rules):
    "Other rules in a run's tokenizer."
    return lambda folder: write_json(read_json(folder / "tokenizer.json") | rules, folder / "tokenizer.json")


def without_unknown(folder):
    "A tokenizer that has no piece for words that it does not know."
    held = read_json(folder / "tokenizer.json")
    del held["model"]["vocab"]["[UNK]"]
    write_json(held, folder / "tokenizer.json")


def told(w, **metadata):
    "A file of embeddings with other metadata."
    table = pq.read_table(w.parquet())
    words = {name.encode(): str(value).encode() for name, value in metadata.items()}
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **words}), w.home / "points.parquet")
    return w.home / "points.parquet"


def pair_with(w, **metadata):
    "Both sides of the test split as another program would leave them, with other metadata."
    for kind, side in w.points.items():
        file = w.home / "foreign" / "embeddings" / f"test-{kind}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame({"id": side.ids, "study_id": side.study_ids, "mu": list(side.mu)})
        words = {name.encode(): str(value).encode() for name, value in {"similarity": "cosine", **metadata}.items()}
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(table.replace_schema_metadata(words), file)
    return w.home / "foreign"


def relabelled(side, **meta):
    "The same points that say something else of themselves."
    return Embeddings(side.ids, side.study_ids, side.mu, meta={**side.meta, **meta})


def twice(side):
    "Texts, the first of which is another of the second's study."
    studies = side.study_ids.copy()
    studies[0] = studies[1]
    return Embeddings(side.ids, studies, side.mu, meta=side.meta)


def whole_weights(folder):
    "Weights rounded to whole numbers of eight bits."
    weights = load_file(folder / "model.safetensors")
    weights["image_head.weight"] = weights["image_head.weight"].round().to(torch.int8)
    save_file(weights, folder / "model.safetensors")


def nan_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["image_head.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors")


@contextlib.contextmanager
def nobody():
    "A folder that this process may not write into, even where tests run as the administrator."
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    mine = os.geteuid()
    try:
        if mine == 0:
            os.seteuid(65534)
        yield folder
    finally:
        if mine == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def without_permission(action):
    with nobody() as folder:
        return action(folder)


@contextlib.contextmanager
def no_room(most=3000):
    "From here on no file can grow beyond `most` bytes, as on a disk that is full."
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def while_held(folder, action):
    with alone_in(folder):
        return action()


def on_a_full_disk(action):
    with no_room():
        return action()


def change_line(folder, name, value):
    "Another value in config.json, as it is typed and not as JSON would write it."
    text = re.sub(rf'"{name}": \d+', f'"{name}": {value}', (folder / "config.json").read_text())
    (folder / "config.json").write_text(text)


def changed_result(w, change, drop=None):
    "A result whose report or queries are others than they were."
    evaluate(w.points, w.phantom, "exact", (1,), w.home / "results", draws=5, verbose=False)
    folder = w.home / "results" / "test" / "exact"
    report = read_json(folder / "metrics.json")
    change(report)
    write_json(report, folder / "metrics.json")
    if drop:
        pd.read_parquet(folder / "queries.parquet").drop(columns=drop).to_parquet(folder / "queries.parquet")
    return folder


def phantom_with(w, text):
    "A phantom with other settings."
    folder = Path(shutil.copytree(w.phantom.folder, w.home / "p"))
    (folder / "phantom.json").write_text(text)
    return StudySet.load(folder)


def changed_index(w, **facts):
    "An index whose facts are others than they were."
    build_index(w.points["text"], kind="hnsw").save(w.home / "index")
    write_json(read_json(w.home / "index" / "index.json") | facts, w.home / "index" / "index.json")
    return w.home / "index"


def altered_graph(w):
    "An index whose graph is cut off, with facts that vouch for it."
    folder = changed_index(w)
    cut(folder, "index.faiss")
    vouched = {name: file_checksum(folder / name) for name in ("gallery.parquet", "index.faiss")}
    write_json(read_json(folder / "index.json") | {"files": vouched}, folder / "index.json")
    return folder


CLAIM = """[x]
paper = "p"
words = "w"
source = "s"
arm = {arm}
against = "b"
measure = "R@10"
margin = {margin}
"""
NO_RADIOGRAPHS = (
    {},
    {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "PixelData": bytes(3 * 1200)},
    {"Rows": 3, "Columns": 3, "PixelData": bytes(10)},
    {"Modality": "XC"},
)
S = "study_id,patient_id,findings\n"
GOOD = S + "a,p,Clear.\nb,q,Edema.\n"
TWO = "image_id,study_id,path\n"
FRAME = dict(study_id=["a", "b"], findings=["Clear.", "Edema."])
NO_IMAGES = pd.DataFrame(columns=["image_id", "study_id", "path"])
ENTITY = '<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
LAUGHS = '<!DOCTYPE e [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'

CASES = [
    # pictures
    ("a film that is not there", lambda w: read_image(w.home / "no.png"), ("no.png", "no such file"), "refused"),
    ("a folder instead of a film", lambda w: read_image(w.out), ("out", "cannot be read"), "refused"),
    ("an empty film", lambda w: read_image(w.write("film.png", b"")), ("film.png", "empty"), "refused"),
    (
        "a film cut off",
        lambda w: read_image(w.spoilt(lambda data: data[:-40])),
        ("film.png", "cannot be read"),
        "refused",
    ),
    (
        "a JPEG cut off",
        lambda w: read_image(w.spoilt(lambda data: data[: len(data) // 2], "film.jpg")),
        ("film.jpg", "cannot be read"),
        "refused",
    ),
    (
        "a text named .png",
        lambda w: read_image(w.write("film.png", "%PDF-1.7")),
        ("film.png", "not a picture"),
        "refused",
    ),
    (
        "a program named .png",
        lambda w: read_image(w.write("film.png", "%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n")),
        ("film.png", "not a picture"),
        "refused",
    ),
    ("a bomb of 900 megapixels", lambda w: read_image(w.bomb(30_000)), ("film.png", "limit"), "refused"),
    ("a bomb below Pillow's own limit", lambda w: read_image(w.bomb(9_400)), ("film.png", "limit"), "refused"),
    (
        "an animated GIF",
        lambda w: read_image(w.picture("film.gif", save_all=True, append_images=[Image.fromarray(255 - GREY)])),
        ("film.gif", "2 frames"),
        "refused",
    ),
    (
        "a TIFF of two pages",
        lambda w: read_image(w.picture("film.tif", save_all=True, append_images=[Image.fromarray(255 - GREY)])),
        ("film.tif", "2 frames"),
        "refused",
    ),
    (
        "a film that may not be read",
        lambda w: without_permission(lambda folder: read_image(w.home / "film.png")),
        ("film.png",),
        "refused",
    ),
    ("16 bits", lambda w: read_image(w.picture(array=GREY.astype(np.uint16) * 200)).max() == 255, (), "read"),
    ("a palette", lambda w: np.abs(read_image(w.picture(mode="P")).astype(int) - GREY).max() <= 1, (), "read"),
    (
        "see-through pixels",
        lambda w: read_image(w.picture(array=np.dstack([GREY] * 3 + [np.zeros_like(GREY)]))).max() == 0,
        (),
        "read",
    ),
    (
        "some films of a set are bad",
        lambda w: (
            len(w.films({1: os.remove, 2: lambda p: p.write_bytes(b""), 4: lambda p: cut(p.parent, p.name)}).pixels(32))
            == 3
        ),
        ("3 of 6 images cannot be read", "f1.png"),
        "counted",
    ),
    (
        "all films of a set are bad",
        lambda w: w.films({k: os.remove for k in range(6)}).pixels(32),
        ("none of the 6 images", "f0.png"),
        "refused",
    ),
    (
        "a film of three dimensions",
        lambda w: embed_films(load_method(w.run), [np.zeros((8, 8, 3), np.uint8)]),
        ("film 1", "(8, 8, 3)"),
        "refused",
    ),
    ("a pixel cache of negative size", lambda w: w.films().pixels(-5), ("size", "-5"), "refused"),
    (
        "a line of 60,000,000 pixels among films",
        lambda w: len(w.films({2: lambda path: path.write_bytes(w.lined(60_000_000))}).pixels(32)) == 5,
        ("1 of 6 images cannot be read", "f2.png", "40,000 on a side"),
        "counted",
    ),
    (
        "a film that is a pipe",
        lambda w: read_image(w.pipe("film.png")),
        ("film.png",),
        "refused",
    ),
    (
        "a film that is read for ever",
        lambda w: read_image(w.endless("film.png")),
        ("film.png",),
        "refused",
    ),
    # DICOM
    ("DICOM without pixels", lambda w: read_dicom(w.dicom(drop=["PixelData"])), ("a.dcm", "no pixels"), "refused"),
    (
        "DICOM with too few pixels",
        lambda w: read_dicom(w.dicom(PixelData=GREY.tobytes()[:-100])),
        ("a.dcm", "1100 bytes of pixels", "1200"),
        "refused",
    ),
    (
        "DICOM with too many pixels",
        lambda w: read_dicom(w.dicom(PixelData=GREY.tobytes() * 2)),
        ("a.dcm", "2400 bytes of pixels"),
        "refused",
    ),
    ("DICOM of several frames", lambda w: read_dicom(w.dicom(NumberOfFrames=3)), ("a.dcm", "3 frames"), "refused"),
    ("DICOM cut off", lambda w: read_dicom(w.write("b.dcm", w.dicom().read_bytes()[:250])), ("b.dcm",), "refused"),
    ("a text named .dcm", lambda w: read_dicom(w.write("b.dcm", "not DICOM")), ("b.dcm", "not a DICOM"), "refused"),
    (
        "a folder of bad DICOM",
        lambda w: from_dicom(w.dicom(drop=["PixelData"]).parent, out=w.home / "new"),
        ("none of the 1 DICOM files", "a.dcm"),
        "refused",
    ),
    (
        "some bad DICOM among good",
        lambda w: (
            len(
                from_dicom(
                    [w.dicom(f"in/{k}.dcm") for k in range(3)][0].parent,
                    out=[w.dicom("in/x.dcm", Modality="CT"), w.home / "new"][1],
                )
            )
            == 3
        ),
        ("1 of 4 files left out", "x.dcm"),
        "counted",
    ),
    (
        "colour, a stamp and a photograph among DICOM",
        lambda w: (
            len(
                from_dicom(
                    [w.dicom(f"in/{k}.dcm", **tags) for k, tags in enumerate(NO_RADIOGRAPHS)][0].parent, out=w.new
                )
            )
            == 1
        ),
        ("3 of 4 files left out",),
        "counted",
    ),
    (
        "a DICOM study of two patients",
        lambda w: from_dicom(
            [w.dicom(f"in/{k}.dcm", StudyInstanceUID="1.2", PatientID=k) for k in "ab"][0].parent, out=w.new
        ),
        ("one study names two patients", "a.dcm", "b.dcm"),
        "refused",
    ),
    (
        "an empty salt",
        lambda w: from_dicom(w.dicom().parent, out=w.new, salt=""),
        ("salt", "empty"),
        "refused",
    ),
    (
        "a damaged journal of DICOM",
        lambda w: from_dicom(
            w.dicom().parent, out=w.write("new/.importing/journal.jsonl", "[5]\n").parents[1], salt="x"
        ),
        ("journal.jsonl, line 1",),
        "refused",
    ),
    # tables
    (
        "the same study twice",
        lambda w: w.table(S + "a,p,Clear.\na,q,Edema.\n"),
        ("study_id", "a is repeated"),
        "refused",
    ),
    (
        "the same image twice",
        lambda w: w.table(GOOD, TWO + f"i,a,{w.picture()}\ni,b,{w.picture()}\n"),
        ("image_id", "i is repeated"),
        "refused",
    ),
    (
        "a study without an id",
        lambda w: w.table(S + "a,p,Clear.\n,q,Edema.\n"),
        ("row 2", "study_id is empty"),
        "refused",
    ),
    ("images without a study", lambda w: w.table(GOOD, TWO + f"i,zz,{w.picture()}\n"), ("1 image(s)", "i"), "refused"),
    (
        "studies without an image",
        lambda w: len(w.table(GOOD, TWO + f"i,a,{w.picture()}\n")) == 2,
        ("1 studies have no image",),
        "counted",
    ),
    (
        "an image without a path",
        lambda w: w.table(GOOD, TWO + "i,a,\n"),
        ("images.csv, row 1", "path is empty"),
        "refused",
    ),
    (
        "some image files are gone",
        lambda w: len(w.table(GOOD, TWO + f"i,a,{w.picture()}\nj,b,no.png\n")) == 2,
        ("1 of 2 image files", "no.png"),
        "counted",
    ),
    (
        "all image files are gone",
        lambda w: w.table(GOOD, TWO + "i,a,x.png\nj,b,y.png\n"),
        ("none of the 2 image files", "x.png"),
        "refused",
    ),
    (
        "a path too long for any disk",
        lambda w: w.table(GOOD, TWO + f"i,a,{'x' * 300}.png\n"),
        ("none of the 1 image files",),
        "refused",
    ),
    (
        "a patient in two splits",
        lambda w: w.table("study_id,patient_id,split\na,p,train\nb,p,test\n"),
        ("patient p", "two splits (test, train)"),
        "refused",
    ),
    (
        "a group in two splits",
        lambda w: w.table("study_id,patient_id,group_id,split\na,p,g,train\nb,q,g,test\n"),
        ("patients p, q", "two splits"),
        "refused",
    ),
    (
        "a split of another name",
        lambda w: w.table("study_id,split\na,Training\n"),
        ("row 1", "Training", "train, val, test"),
        "refused",
    ),
    ("no table", lambda w: from_csv(w.home / "nowhere", w.out), ("nowhere", "no such file"), "refused"),
    ("an empty table", lambda w: w.table(""), ("studies.csv", "empty"), "refused"),
    ("a heading alone", lambda w: w.table(S), ("studies.csv", "no study"), "refused"),
    (
        "no column study_id",
        lambda w: w.table("study,findings\na,Clear.\n"),
        ("studies.csv", "study_id is missing", "study, findings"),
        "refused",
    ),
    (
        "a column twice",
        lambda w: w.table("study_id,note,note\na,b,c\n"),
        ("studies.csv", "'note' stands twice"),
        "refused",
    ),
    (
        "a row too short",
        lambda w: w.table(S + "a,p,Clear.\nb,q\n"),
        ("studies.csv, line 3", "2 fields", "3"),
        "refused",
    ),
    ("an open quote", lambda w: w.table(S + 'a,p,"Clear.\n'), ("studies.csv",), "refused"),
    (
        "Latin-1",
        lambda w: w.table((S + "a,p,Müller\n").encode("latin-1")),
        ("studies.csv, line 2", "0xfc", "UTF-8"),
        "refused",
    ),
    ("UTF-16", lambda w: w.table(GOOD.encode("utf-16")), ("studies.csv", "UTF-16"), "refused"),
    ("a zero byte", lambda w: w.table(GOOD + "c,r,\0\n"), ("studies.csv", "zero byte"), "refused"),
    ("a label of value 7", lambda w: w.table("study_id,labels\na,Edema=7\n"), ("study a", "Edema", "7"), "refused"),
    (
        "labels in broken JSON",
        lambda w: w.table('study_id,labels\na,"{""Edema"": 1"\n'),
        ("study a", "JSON"),
        "refused",
    ),
    (
        "a height that is no number",
        lambda w: w.table(GOOD, f"image_id,study_id,path,height\ni,a,{w.picture()},tall\n"),
        ("row 1", "height", "tall"),
        "refused",
    ),
    (
        "a height below zero",
        lambda w: w.table(GOOD, f"image_id,study_id,path,height\ni,a,{w.picture()},-5\n"),
        ("row 1", "height", "positive"),
        "refused",
    ),
    (
        "a box beyond its film",
        lambda w: w.table(GOOD, TWO + f"i,a,{w.picture()}\n", "image_id,region,x0,y0,x1,y1\ni,heart,0.1,0.1,1.4,0.5\n"),
        ("regions, row 1", "1.4"),
        "refused",
    ),
    (
        "a box of NaN",
        lambda w: w.table(GOOD, TWO + f"i,a,{w.picture()}\n", "image_id,region,x0,y0,x1,y1\ni,heart,nan,0.1,0.4,0.5\n"),
        ("regions, row 1",),
        "refused",
    ),
    (
        "a box of no image",
        lambda w: w.table(
            GOOD, TWO + f"i,a,{w.picture()}\n", "image_id,region,x0,y0,x1,y1\nzz,heart,0.1,0.1,0.4,0.5\n"
        ),
        ("1 box(es)", "zz"),
        "refused",
    ),
    (
        "lists instead of texts",
        lambda w: StudySet(pd.DataFrame(FRAME | {"note": [["a"], ["b"]]}), NO_IMAGES),
        ("studies, row 1", "note", "list"),
        "refused",
    ),
    (
        "bytes instead of texts",
        lambda w: StudySet(pd.DataFrame(FRAME | {"note": [b"a", b"b"]}), NO_IMAGES),
        ("studies, row 1", "note", "bytes"),
        "refused",
    ),
    (
        "a dataframe with a column twice",
        lambda w: StudySet(pd.DataFrame([["a", "b"]], columns=["study_id"] * 2), NO_IMAGES),
        ("study_id stands twice",),
        "refused",
    ),
    (
        "a list instead of a dataframe",
        lambda w: StudySet([{"study_id": "a"}], NO_IMAGES),
        ("studies", "DataFrame", "list"),
        "refused",
    ),
    (
        "an unknown column",
        lambda w: len(w.table("study_id,ward\na,W1\n")) == 1,
        ("kept unknown column(s) ward",),
        "counted",
    ),
    ("a folder that is no StudySet", lambda w: StudySet.load(w.home), ("not a StudySet",), "refused"),
    (
        "studies.parquet cut off",
        lambda w: StudySet.load(
            [cut(w.home / "x", "studies.parquet") for _ in [shutil.copytree(w.out, w.home / "x")]] and w.home / "x"
        ),
        ("studies.parquet", "Parquet"),
        "refused",
    ),
    (
        "a StudySet that lost its images",
        lambda w: StudySet.load(
            [os.remove(w.home / "x" / "images.parquet") for _ in [shutil.copytree(w.out, w.home / "x")]]
            and w.home / "x"
        ),
        ("images.parquet", "no such file"),
        "refused",
    ),
    (
        "a dataset.json that is a list",
        lambda w: StudySet.load(
            [w.write("x/dataset.json", "[1]") for _ in [shutil.copytree(w.out, w.home / "x")]] and w.home / "x"
        ),
        ("dataset.json", "list"),
        "refused",
    ),
    ("a split without studies", lambda w: w.phantom.split("testing"), ("testing", "train, val, test"), "refused"),
    (
        "splits that do not sum to 1",
        lambda w: assign_splits(w.phantom.studies, {"train": 0.5, "test": 0.1}),
        ("fractions", "sum to 1"),
        "refused",
    ),
    (
        "labels with a comma",
        lambda w: w.table('study_id,labels\na,"Edema,Pneumonia"\n'),
        ("study a", "label"),
        "refused",
    ),
    (
        "labels with a bar",
        lambda w: w.table("study_id,labels\na,Edema|Pneumonia\n"),
        ("study a", "label"),
        "refused",
    ),
    (
        "labels with a colon",
        lambda w: w.table("study_id,labels\na,Edema:0\n"),
        ("study a", "label"),
        "refused",
    ),
    (
        "labels with a number",
        lambda w: w.table("study_id,labels\na,0\n"),
        ("study a", "label"),
        "refused",
    ),
    (
        "labels with a list",
        lambda w: w.table('study_id,labels\na,"[""Edema""]"\n'),
        ("study a", "label"),
        "refused",
    ),
    (
        "labels with both values",
        lambda w: w.table("study_id,labels\na,Edema=1;Edema=0\n"),
        ("study a", "label"),
        "refused",
    ),
    (
        "labels nested beyond measure",
        lambda w: w.table("study_id,labels\na," + '"' + '{""a"":' * 9999 + '"\n'),
        ("study a", "labels"),
        "refused",
    ),
    (
        "a height of 1e300",
        lambda w: w.table(GOOD, "image_id,study_id,path,height\ni,a,x.png,1e300\n", save=False),
        ("none of the 1 image files",),
        "refused",
    ),
    (
        "a height beyond whole numbers",
        lambda w: w.table(GOOD, f"image_id,study_id,path,height\ni,a,{w.picture()},{2**63}\n"),
        ("images, row 1", "height"),
        "refused",
    ),
    (
        "a table that is a pipe",
        lambda w: from_csv(w.pipe("in/studies.csv").parent, w.out),
        ("studies.csv",),
        "refused",
    ),
    (
        "regions that are read for ever",
        lambda w: [w.write("in/studies.csv", GOOD), from_csv(w.endless("in/images.csv").parent, w.out)],
        ("images.csv", "no plain file"),
        "refused",
    ),
    (
        "a film that leads in circles",
        lambda w: w.table(GOOD, f"{TWO}i,a,{w.circle('x.png')}\nj,b,{w.picture()}\n"),
        ("1 of 2 image files are not there",),
        "counted",
    ),
    (
        "tables over a phantom",
        lambda w: from_csv(w.write("in/studies.csv", GOOD).parent, w.phantom.folder),
        ("already holds a StudySet made by", "phantom"),
        "refused",
    ),
    # reports
    (
        "an empty report",
        lambda w: (
            len(
                embed(
                    load_method(w.run),
                    StudySet(
                        w.films().studies.assign(findings=["A film."] * 5 + [""]), w.films().images, folder=w.home
                    ),
                    progress=False,
                )["text"]
            )
            == 5
        ),
        ("1 of 6 studies are left out", "1 without a text"),
        "counted",
    ),
    (
        "nothing but empty reports",
        lambda w: embed(
            load_method(w.run),
            StudySet(w.films().studies.assign(findings=""), w.films().images, folder=w.home),
            progress=False,
        ),
        ("nothing to embed", "6 without a text"),
        "refused",
    ),
    (
        "a training without a text",
        lambda w: fit(
            new_method(),
            StudySet(w.films().studies.assign(findings="", split="train"), w.films().images, folder=w.home),
            TRAINING,
            w.home / "r",
            progress=False,
        ),
        ("no study has both",),
        "refused",
    ),
    (
        "a report of 100,000 words",
        lambda w: (
            len(embed_texts(load_method(w.run), ["effusion " * 100_000])) == 1
            and len(w.table(S + "a,p," + "word " * 100_000 + "\n").studies["findings"][0].split()) == 100_000
        ),
        (),
        "read",
    ),
    (
        "a question without a word",
        lambda w: embed_texts(load_method(w.run), ["fine", " ... "]),
        ("number 2", "no word"),
        "refused",
    ),
    (
        "a question in another encoding",
        lambda w: embed_texts(load_method(w.run), ["f\udcfcr"]),
        ("number 1", "UTF-8"),
        "refused",
    ),
    # XML and archives
    ("XML cut off", lambda w: w.openi({"1.xml": report(1), "2.xml": report(2)[:40]}), ("2.xml", "cut off"), "refused"),
    (
        "XML with an external entity",
        lambda w: w.openi({"1.xml": ENTITY + report(1, "&x;")}),
        ("1.xml", "refused"),
        "refused",
    ),
    (
        "XML with entities that grow",
        lambda w: w.openi({"1.xml": LAUGHS + report(1, "&b;")}),
        ("1.xml", "refused"),
        "refused",
    ),
    ("XML of something else", lambda w: w.openi({"1.xml": "<html/>"}), ("1.xml", "not an OpenI report"), "refused"),
    (
        "the same report twice",
        lambda w: w.openi({"1.xml": report(1), "b/1.xml": report(1)}),
        ("CXR1", "twice"),
        "refused",
    ),
    ("an archive with ../", lambda w: w.openi({"../1.xml": report(1)}), ("../1.xml", "leads out"), "refused"),
    ("an archive with an absolute path", lambda w: w.openi({"/1.xml": report(1)}), ("/1.xml", "leads out"), "refused"),
    (
        "an archive with a symbolic link",
        lambda w: w.openi({"1.xml": link("1.xml", tarfile.SYMTYPE)}),
        ("1.xml", "a link"),
        "refused",
    ),
    (
        "an archive with a hard link",
        lambda w: w.openi({"1.xml": link("1.xml", tarfile.LNKTYPE)}),
        ("1.xml", "a link"),
        "refused",
    ),
    (
        "an archive cut off",
        lambda w: [
            cut(w.home, w.archive({f"{k}.xml": report(k, "word " * 500) for k in range(9)}).name),
            from_openi(w.home / "reports.tgz", w.home / "new"),
        ],
        ("reports.tgz", "cut off"),
        "refused",
    ),
    (
        "a text named .tgz",
        lambda w: from_openi(w.write("a.tgz", "hello"), w.home / "new"),
        ("a.tgz", "not a readable tar archive"),
        "refused",
    ),
    (
        "films to draw of negative size",
        lambda w: openi_with_drawn_films(w.archive({"1.xml": report(1)}), w.home / "new", size=-4),
        ("size", "-4"),
        "refused",
    ),
    (
        "an XML report that is a pipe",
        lambda w: from_openi(w.pipe("in/1.xml").parent, w.new),
        ("1.xml", "no plain file"),
        "refused",
    ),
    (
        "an XML report that is read for ever",
        lambda w: from_openi(w.endless("in/1.xml").parent, w.new),
        ("1.xml", "no plain file"),
        "refused",
    ),
    (
        "an archive with one bit flipped",
        lambda w: w.flipped({f"{k}.xml": report(k) for k in range(30)}),
        ("reports.tgz", "damaged or cut off"),
        "refused",
    ),
    (
        "an archive that ends at a member's border",
        lambda w: w.shortened({f"{k}.xml": report(k) for k in range(30)}),
        ("reports.tgz", "damaged or cut off"),
        "refused",
    ),
    (
        "a report whose id leads elsewhere",
        lambda w: openi_with_drawn_films(w.archive({"1.xml": report("/../../x")}), w.new, size=32),
        ("1.xml", "uId", "no name of a file"),
        "refused",
    ),
    (
        "a report whose film leads elsewhere",
        lambda w: w.openi({"1.xml": report(1).replace("</eC", '<parentImage id="../x"/></eC')}),
        ("1.xml", "parentImage", "no name of a file"),
        "refused",
    ),
    # embeddings
    (
        "a point of NaN",
        lambda w: Embeddings.load(w.parquet(mu=[[1.0, 0.0], [np.nan, 1.0]])),
        ("points.parquet", "NaN", "row 1 (id b)"),
        "refused",
    ),
    (
        "an infinite point",
        lambda w: Embeddings.load(w.parquet(mu=[[np.inf, 0.0], [0.0, 1.0]])),
        ("points.parquet", "infinite", "row 0 (id a)"),
        "refused",
    ),
    (
        "points of different lengths",
        lambda w: Embeddings.load(w.parquet(mu=[[1.0, 0.0], [1.0]])),
        ("points.parquet", "(id"),
        "refused",
    ),
    (
        "clouds of which nobody says how they are compared",
        lambda w: Embeddings.load(w.parquet(logvar=[[0.0, 0.0], [0.0, 0.0]])),
        ("points.parquet", "logvar", "--similarity"),
        "refused",
    ),
    (
        "points that are Python objects",
        lambda w: read_points(pickled(w.home / "test-image.npy"), w.phantom),
        ("test-image.npy", "without Python objects"),
        "refused",
    ),
    (
        "a plug-in with a mistake in it",
        lambda w: load_plugin(w.write("own.py", "\nmethod = CLIP\n")),
        ("own.py", "line 2", "NameError"),
        "refused",
    ),
    (
        "a run whose plug-in is not here",
        lambda w: load_method(w.write("r/config.json", '{"method": "mine", "plugin": "own.py"}').parent),
        ("config.json", "'mine'", "--plugin own.py"),
        "refused",
    ),
    (
        "a measurement without the pair of points",
        lambda w: evaluate(w.points["image"], w.phantom),
        ("points", "pair of Embeddings"),
        "refused",
    ),
    (
        "the same point twice",
        lambda w: Embeddings.load(w.parquet(id=["a", "a"])),
        ("points.parquet", "row 1 (id a)", "earlier"),
        "refused",
    ),
    (
        "texts instead of points",
        lambda w: Embeddings.load(w.parquet(mu=["x", "y"])),
        ("points.parquet", "lists of numbers"),
        "refused",
    ),
    (
        "embeddings that are no Parquet",
        lambda w: Embeddings.load(w.write("points.parquet", "id,mu")),
        ("points.parquet", "Parquet"),
        "refused",
    ),
    (
        "points that do not say how they are compared",
        lambda w: len(Embeddings.load(w.parquet())) == 2,
        ("points.parquet", "cosine is taken"),
        "counted",
    ),
    (
        "a gallery of other dimensions",
        lambda w: build_index(w.points["text"]).search(points([[1, 2, 3]]), 1),
        ("3 dimensions", "16"),
        "refused",
    ),
    (
        "a measurement across dimensions",
        lambda w: evaluate({"image": narrow(w.points["image"]), "text": w.points["text"]}, w.phantom),
        ("4 dimensions", "16"),
        "refused",
    ),
    (
        "points of studies that are elsewhere",
        lambda w: evaluate({"image": points([[1, 2]]), "text": points([[1, 2]])}, w.phantom),
        ("1 of 1", "s0"),
        "refused",
    ),
    ("clouds without their width", lambda w: build_index(w.points["text"], "csd"), ("csd", "logvar"), "refused"),
    ("an index that is none", lambda w: Index.load(w.out), ("index.json", "no such file"), "refused"),
    # runs
    ("a folder that is no run", lambda w: load_method(w.out), ("out", "no run"), "refused"),
    (
        "a run that is not there",
        lambda w: CLIP.from_pretrained(w.home / "nowhere"),
        ("nowhere", "no such folder"),
        "refused",
    ),
    (
        "a run of another method",
        lambda w: CLIP.from_pretrained(w.settings(method="pecm")),
        ("holds a pecm method, not clip",),
        "refused",
    ),
    (
        "a run of an unknown method",
        lambda w: load_method(w.settings(method="clap")),
        ("config.json", "'clap'", "clip"),
        "refused",
    ),
    (
        "settings cut off",
        lambda w: load_method(w.broken_run(lambda folder: cut(folder, "config.json"))),
        ("config.json", "JSON"),
        "refused",
    ),
    (
        "settings of a wrong type",
        lambda w: load_method(w.settings(dim="many")),
        ("dim", "'many'", "whole number"),
        "refused",
    ),
    ("settings of nobody's", lambda w: load_method(w.settings(colour=3)), ("config.json", "colour"), "refused"),
    (
        "a backbone that does not exist",
        lambda w: load_method(w.settings(image_backbone={"model_type": "brain"})),
        ("run", "backbone: 'brain'", "known families"),
        "refused",
    ),
    (
        "a network of texts for films",
        lambda w: load_method(w.settings(image_backbone={"model_type": "bert"})),
        ("run", "'bert'", "known families"),
        "refused",
    ),
    (
        "a pair of encoders for films",
        lambda w: load_method(w.settings(image_backbone={"model_type": "clip"})),
        ("run", "'clip'", "known families"),
        "refused",
    ),
    (
        "a network of films for texts",
        lambda w: load_method(w.settings(text_backbone={"model_type": "resnet"})),
        ("run", "'resnet'", "does not read word pieces"),
        "refused",
    ),
    (
        "a network with a function that nobody knows",
        lambda w: load_method(
            w.settings(text_backbone=read_json(w.run / "config.json")["text_backbone"] | {"hidden_act": "loud"})
        ),
        ("run", "'bert'", "KeyError: 'loud'"),
        "refused",
    ),
    (
        "a scale of films without numbers",
        lambda w: load_method(w.settings(normalisation={"mean": "grey", "std": [1.0]})),
        ("run", "image_mean", "'grey'"),
        "refused",
    ),
    (
        "a run as a finished model of the Hub",
        lambda w: HubTwoTower.from_hub(str(w.run)),
        ("two-tower model", "cannot be loaded"),
        "refused",
    ),
    (
        "a folder of texts as the film encoder",
        lambda w: CLIP.create(image=str(shipped_data("tiny/text"))),
        ("'bert'", "known families"),
        "refused",
    ),
    (
        "films that patches do not cover",
        lambda w: CLIP.create(CLIPConfig(size=60), image="tiny-vit"),
        ("tiny-vit", "size: 60", "8 pixels of a patch"),
        "refused",
    ),
    (
        "a tokenizer whose words lie beyond the text encoder's table",
        lambda w: load_method(w.broken_run(far_words)),
        ("run", "the tokenizer has", "do not belong together"),
        "refused",
    ),
    (
        "no tokenizer",
        lambda w: load_method(w.broken_run(lambda folder: os.remove(folder / "tokenizer.json"))),
        ("run", "no tokenizer"),
        "refused",
    ),
    (
        "a tokenizer cut off",
        lambda w: load_method(w.broken_run(lambda folder: cut(folder, "tokenizer.json"))),
        ("run", "tokenizer cannot be loaded"),
        "refused",
    ),
    (
        "the tokenizer of another run",
        lambda w: load_method(w.broken_run(other_words)),
        ("tokenizer has 4000", "do not belong together"),
        "refused",
    ),
    (
        "no weights",
        lambda w: load_method(w.broken_run(lambda folder: os.remove(folder / "model.safetensors"))),
        ("model.safetensors", "cannot be loaded"),
        "refused",
    ),
    (
        "weights cut off",
        lambda w: load_method(w.broken_run(lambda folder: cut(folder, "model.safetensors"))),
        ("model.safetensors", "cannot be loaded"),
        "refused",
    ),
    (
        "weights of another size",
        lambda w: load_method(w.settings(dim=8)),
        ("model.safetensors", "image_head"),
        "refused",
    ),
    (
        "weights of NaN",
        lambda w: embed(load_method(w.broken_run(nan_weights)), w.phantom, "test", progress=False),
        ("model.safetensors", "image_head.weight", "NaN"),
        "refused",
    ),
    (
        "a run in the way",
        lambda w: fit(new_method(), w.phantom, TRAINING, w.run, progress=False),
        ("run", "holds a run already"),
        "refused",
    ),
    (
        "a pretrained folder in the way",
        lambda w: fit(
            new_method(), w.phantom, TRAINING, w.write("bert/config.json", "{}").parent, resume=True, progress=False
        ),
        ("bert", "holds other files (config.json)"),
        "refused",
    ),
    (
        "a training in the way",
        lambda w: while_held(
            w.home / "r", lambda: fit(new_method(), w.phantom, TRAINING, w.home / "r", progress=False)
        ),
        ("r: another process is working in this folder",),
        "refused",
    ),
    (
        "a training set without val",
        lambda w: (
            fit(new_method(), w.phantom.split("train"), TRAINING, w.home / "r", progress=False).has_model
            and len(embed(load_method(w.home / "r"), w.phantom, "test", progress=False)["text"]) > 0
        ),
        ("no study is in val: the weights of the last epoch are kept",),
        "counted",
    ),
    (
        "a batch of one",
        lambda w: fit(new_method(), w.phantom, TrainConfig(batch_size=1), w.home / "r", progress=False),
        ("batch_size", "two studies"),
        "refused",
    ),
    (
        "a run of other settings",
        lambda w: fit(new_method(), w.phantom, TrainConfig(epochs=2, batch_size=8), w.run, resume=True, progress=False),
        ("run", "another config"),
        "refused",
    ),
    (
        "a run of other data",
        lambda w: fit(
            new_method(),
            w.phantom.select(w.phantom.studies["study_id"][:40]),
            TRAINING,
            w.run,
            resume=True,
            progress=False,
        ),
        ("run", "another data"),
        "refused",
    ),
    (
        "a damaged checkpoint",
        lambda w: fit(
            new_method(),
            w.phantom,
            TRAINING,
            w.broken_run(lambda folder: [cut(p, "optimiser.safetensors") for p in (folder / "checkpoints").iterdir()]),
            resume=True,
            progress=False,
        ),
        ("checkpoints/step-", "damaged"),
        "refused",
    ),
    # our own files, each by its schema
    (
        "a dataset.json whose restriction is a word",
        lambda w: StudySet.load(
            [w.write("x/dataset.json", '{"restricted": "no"}') for _ in [shutil.copytree(w.out, w.home / "x")]]
            and w.home / "x"
        ),
        ("dataset.json", "restricted", "true or false"),
        "refused",
    ),
    *[
        (
            f"settings of {value[:5]} dimensions",
            lambda w, value=value: load_method(w.broken_run(lambda folder: change_line(folder, "dim", value))),
            ("config.json", *said),
            "refused",
        )
        for value, said in (
            ("1e30", ("dim", "whole number")),
            ("1e999", ("too large",)),
            ("NaN", ("NaN is no number",)),
            ("9" * 99, ("99 digits",)),
        )
    ],
    (
        "settings of endless texts",
        lambda w: load_method(w.settings(max_words=10**12)),
        ("config.json", "max_words", "above 65536"),
        "refused",
    ),
    (
        "settings nested deep",
        lambda w: load_method(
            w.broken_run(lambda folder: (folder / "config.json").write_text('{"a":' * 2000 + "1" + "}" * 2000))
        ),
        ("config.json", "deep"),
        "refused",
    ),
    (
        "a fingerprint that is a list",
        lambda w: Run(w.broken_run(lambda folder: (folder / "fingerprint.json").write_text("[]"))).fingerprint(),
        ("fingerprint.json", "names and values"),
        "refused",
    ),
    *[
        (
            f"a log with the line {line}",
            lambda w, line=line: Run(w.broken_run(lambda folder: (folder / "log.jsonl").write_text(line + "\n"))).log,
            ("log.jsonl, line 1", said),
            "refused",
        )
        for line, said in (
            ("5", "names and values"),
            ("null", "names and values"),
            ('{"loss": 1}', "lacks step"),
            ('{"step": "x"}', "step must be a whole number"),
            ('{"step": 1, "loss": "y"}', "loss must be a number"),
        )
    ],
    *[
        (
            f"a result that is {text}",
            lambda w, text=text: Results.load(w.write("result/metrics.json", text).parent),
            ("metrics.json", said),
            "refused",
        )
        for text, said in (("{}", "lacks protocol"), ("[]", "names and values"), ('{"a": NaN}', "NaN is no number"))
    ],
    (
        "a result without its fingerprint",
        lambda w: Results.load(changed_result(w, lambda report: report.update(fingerprint=None))),
        ("metrics.json", "fingerprint", "names and values"),
        "refused",
    ),
    (
        "queries of no direction",
        lambda w: Results.load(changed_result(w, lambda report: None, drop="direction")),
        ("queries.parquet",),
        "refused",
    ),
    (
        "points whose split leads elsewhere",
        lambda w: Embeddings.load(told(w, split="../../../x")),
        ("points.parquet", "split", "'../../../x'"),
        "refused",
    ),
    (
        "points of an absolute split",
        lambda w: Embeddings.load(told(w, split="/elsewhere/x")),
        ("points.parquet", "split", "'/elsewhere/x'"),
        "refused",
    ),
    (
        "points multiplied by NaN",
        lambda w: Embeddings.load(told(w, similarity="cosine", logit_scale="nan")),
        ("points.parquet", "logit_scale", "finite"),
        "refused",
    ),
    (
        "points with deep local features",
        lambda w: Embeddings.load(told(w, similarity="cosine", local="[" * 5000 + "]" * 5000)),
        ("points.parquet", "local"),
        "refused",
    ),
    (
        "points of a modality that is none",
        lambda w: Embeddings.load(told(w, similarity="cosine", modality="sound")),
        ("points.parquet", "modality", "'sound'"),
        "refused",
    ),
    (
        "films compared in another way than texts",
        lambda w: evaluate(
            {"image": relabelled(w.points["image"], similarity="csd"), "text": w.points["text"]}, w.phantom
        ),
        ("csd", "cosine"),
        "refused",
    ),
    (
        "films of another split than the texts",
        lambda w: evaluate({"image": relabelled(w.points["image"], split="val"), "text": w.points["text"]}, w.phantom),
        ("'val'", "'test'"),
        "refused",
    ),
    (
        "two texts of one study",
        lambda w: evaluate({"image": w.points["image"], "text": twice(w.points["text"])}, w.phantom),
        ("1 texts", "another"),
        "refused",
    ),
    (
        "weights of eight bits",
        lambda w: load_method(w.broken_run(whole_weights)),
        ("model.safetensors", "image_head.weight", "int8"),
        "refused",
    ),
    (
        "a tokenizer without a piece for unknown words",
        lambda w: load_method(w.broken_run(without_unknown)),
        ("tokenizer.json", "unknown words"),
        "refused",
    ),
    (
        "a tokenizer whose pattern has no end",
        lambda w: load_method(
            w.broken_run(
                in_tokenizer(
                    pre_tokenizer={
                        "type": "Split",
                        "pattern": {"Regex": "(?:(?:a+)+)+$|((a|a)*)*b"},
                        "behavior": "Isolated",
                        "invert": False,
                    }
                )
            )
        ),
        ("tokenizer.json", "cannot be used", "retry-limit"),
        "refused",
    ),
    (
        "a tokenizer with a broken table",
        lambda w: load_method(
            w.broken_run(in_tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////zEyMzQ="}))
        ),
        ("tokenizer.json", "cannot be used"),
        "refused",
    ),
    (
        "a tokenizer that ends its process",
        lambda w: load_method(
            w.broken_run(
                in_tokenizer(normalizer={"type": "Replace", "pattern": {"String": "e"}, "content": "x" * 10_000_000})
            )
        ),
        ("tokenizer.json", "Replace", "too large"),
        "refused",
    ),
    (
        "a tokenizer without a vocabulary",
        lambda w: embed(load_method(w.broken_run(empty_vocabulary)), w.phantom, "test", progress=False),
        ("run: the tokenizer fails at a text",),
        "refused",
    ),
    (
        "a phantom whose settings are a list",
        lambda w: load_truth(phantom_with(w, "[]")),
        ("phantom.json", "names and values"),
        "refused",
    ),
    (
        "an index whose facts are another's",
        lambda w: Index.load(changed_index(w, effort="many")),
        ("index.json", "effort"),
        "refused",
    ),
    ("an index whose graph was altered", lambda w: Index.load(altered_graph(w)), ("index.faiss",), "refused"),
    ("films strengthened beyond all use", lambda w: TrainConfig(augmentation=1e30), ("augmentation", "10"), "refused"),
    ("a space of 10^12 dimensions", lambda w: CLIPConfig(dim=10**12), ("dim", "65536"), "refused"),
    # arguments
    ("a negative seed", lambda w: make_phantom(4, seed=-1, out=w.home / "new"), ("seed", "-1"), "refused"),
    ("a seed that is a text", lambda w: make_phantom(4, seed="one", out=w.home / "new"), ("seed", "'one'"), "refused"),
    ("minus three studies", lambda w: make_phantom(-3, out=w.home / "new"), ("studies", "-3"), "refused"),
    ("films of negative size", lambda w: make_phantom(4, size=-64, out=w.home / "new"), ("size", "-64"), "refused"),
    (
        "a folder that holds other things",
        lambda w: make_phantom(4, out=w.out, size=32),
        ("out", "is not empty"),
        "refused",
    ),
    ("a training with a negative seed", lambda w: TrainConfig(seed=-1), ("seed", "-1"), "refused"),
    ("a rate of NaN", lambda w: TrainConfig(lr=float("nan")), ("lr", "nan"), "refused"),
    ("half an epoch", lambda w: TrainConfig(epochs=0.5), ("epochs", "0.5"), "refused"),
    (
        "a batch above the data",
        lambda w: fit(new_method(), w.phantom, TrainConfig(batch_size=4096), w.home / "r", progress=False),
        ("batch_size", "4096"),
        "refused",
    ),
    ("a space of no dimensions", lambda w: CLIPConfig(dim=0), ("dim", "0"), "refused"),
    (
        "k above the gallery",
        lambda w: build_index(w.points["text"]).search(w.points["image"], 10_000),
        ("k", "10000", str(10)),
        "refused",
    ),
    ("k below one", lambda w: build_index(w.points["text"]).search(w.points["image"], 0), ("k", "0"), "refused"),
    (
        "some K above the gallery",
        lambda w: evaluate(w.points, w.phantom, ks=(1, 10_000), draws=10) is not None,
        ("K = 10000 left out", "gallery holds 10"),
        "counted",
    ),
    (
        "all K above the gallery",
        lambda w: evaluate(w.points, w.phantom, ks=(10_000,)),
        ("10000", "above the gallery"),
        "refused",
    ),
    (
        "a protocol that is none",
        lambda w: evaluate(w.points, w.phantom, "fuzzy"),
        ("protocol", "'fuzzy'", "exact"),
        "refused",
    ),
    (
        "labels where there are none",
        lambda w: evaluate(
            {"image": points([[1, 2]]), "text": points([[1, 2]])},
            StudySet(pd.DataFrame({"study_id": ["s0"], "note": ["A."]}), NO_IMAGES),
            "labels",
        ),
        ("labels", "none of the 1 studies"),
        "refused",
    ),
    (
        "a filter of another length",
        lambda w: build_index(w.points["text"]).search(w.points["image"], 1, where=np.ones(3, bool)),
        ("where", "(3,)"),
        "refused",
    ),
    # places that cannot be written
    (
        "a table below a file",
        lambda w: from_csv(w.write("in/studies.csv", GOOD).parent, w.home / "in" / "studies.csv" / "set", quiet=True),
        ("cannot write", "studies.csv/set"),
        "refused",
    ),
    (
        "a run below a file",
        lambda w: fit(new_method(), w.phantom, TRAINING, w.write("note", "x") / "run", progress=False),
        ("cannot write", "note/run"),
        "refused",
    ),
    (
        "points below a file",
        lambda w: embed(load_method(w.run), w.phantom, "test", out=w.write("note", "x") / "points", progress=False),
        ("cannot write", "note/points"),
        "refused",
    ),
    (
        "a set in a folder without permission",
        lambda w: without_permission(lambda folder: StudySet(pd.DataFrame(FRAME), NO_IMAGES).save(folder)),
        ("cannot write", "ermission denied"),
        "refused",
    ),
    (
        "a phantom in a folder without permission",
        lambda w: without_permission(lambda folder: make_phantom(2, size=32, out=folder / "p", progress=False)),
        ("cannot write", "ermission denied"),
        "refused",
    ),
    (
        "a set on a full disk",
        lambda w: on_a_full_disk(
            lambda: StudySet(pd.DataFrame({"study_id": [f"s{k}" for k in range(900)]}), NO_IMAGES).save(w.out)
        ),
        ("cannot write", "out/images.parquet"),
        "refused",
    ),
    (
        "a pixel cache on a full disk",
        lambda w: on_a_full_disk(lambda: w.films().pixels(64)),
        ("cannot write", "pixels-64.npy"),
        "refused",
    ),
    (
        "a run on a full disk",
        lambda w: on_a_full_disk(lambda: new_method().save_pretrained(w.home / "r")),
        ("cannot write", "r/"),
        "refused",
    ),
    # as a user types them
    ("typed: no such source", lambda w: ("data", "csv", w.home / "nowhere", w.out), ("nowhere",), "typed"),
    (
        "typed: Latin-1",
        lambda w: ("data", "csv", w.write("in/studies.csv", (S + "a,p,Müller\n").encode("latin-1")), w.out),
        ("studies.csv, line 2", "UTF-8"),
        "typed",
    ),
    (
        "typed: a patient in two splits",
        lambda w: ("data", "csv", w.write("in/studies.csv", "study_id,patient_id,split\na,p,train\nb,p,test\n"), w.out),
        ("patient p", "two splits"),
        "typed",
    ),
    (
        "typed: an id with line ends and colours",
        lambda w: ("data", "csv", w.write("in/studies.csv", 'study_id,split\n"a\nb\x1b[31m","no\nsplit"\n'), w.out),
        ("row 1", "no split"),
        "typed",
    ),
    (
        "typed: some films are gone",
        lambda w: (
            "data",
            "csv",
            w.write("in/studies.csv", f"study_id,path,note\na,{w.picture()},A.\nb,no.png,B.\n"),
            w.out,
        ),
        ("1 files missing",),
        "typed, counted",
    ),
    ("typed: a negative seed", lambda w: ("data", "phantom", w.home / "new", "--seed", -1), ("seed", "-1"), "typed"),
    ("typed: a negative size", lambda w: ("data", "phantom", w.home / "new", "--size", -64), ("size", "-64"), "typed"),
    (
        "typed: a phantom over other data",
        lambda w: ("data", "phantom", w.out, "--studies", 2),
        ("out", "is not empty"),
        "typed",
    ),
    (
        "typed: an archive with ../",
        lambda w: ("data", "openi", w.archive({"../1.xml": report(1)}), w.home / "new"),
        ("../1.xml", "leads out"),
        "typed",
    ),
    (
        "typed: XML with an external entity",
        lambda w: ("data", "openi", w.archive({"1.xml": ENTITY + report(1, "&x;")}), w.home / "new"),
        ("1.xml", "refused"),
        "typed",
    ),
    (
        "typed: DICOM without pixels",
        lambda w: ("data", "dicom", w.dicom(drop=["PixelData"]).parent, w.home / "new"),
        ("a.dcm", "no pixels"),
        "typed",
    ),
    (
        "typed: training on no StudySet",
        lambda w: ("train", "clip", "--data", w.home, "--out", w.home / "r"),
        ("not a StudySet",),
        "typed",
    ),
    (
        "typed: a folder that is no run",
        lambda w: ("embed", w.out, "--data", w.phantom.folder),
        ("out", "no run"),
        "typed",
    ),
    (
        "typed: a run of another method",
        lambda w: ("embed", w.settings(method="clap"), "--data", w.phantom.folder),
        ("'clap'",),
        "typed",
    ),
    (
        "typed: no tokenizer",
        lambda w: ("search", w.broken_run(lambda folder: os.remove(folder / "tokenizer.json")), "--text", "effusion"),
        ("no tokenizer",),
        "typed",
    ),
    (
        "typed: a question that is a bomb",
        lambda w: ("search", w.run, "--image", w.bomb(30_000)),
        ("film.png", "limit"),
        "typed",
    ),
    (
        "typed: an empty split",
        lambda w: ("evaluate", w.foreign(lambda mu: mu), "--data", w.phantom.folder, "--split", "tset"),
        ("tset",),
        "typed",
    ),
    (
        "typed: points of NaN",
        lambda w: ("evaluate", w.foreign(with_nan), "--data", w.phantom.folder),
        ("test-image.parquet", "NaN", "row 1"),
        "typed",
    ),
    (
        "typed: dimensions that do not fit",
        lambda w: ("evaluate", w.foreign(lambda mu: mu[:, :4]), "--data", w.phantom.folder),
        ("4 dimensions", "16"),
        "typed",
    ),
    *[
        (
            f"typed: {word} as a setting of the method",
            lambda w, word=word: ("train", "clip", "--data", w.phantom.folder, "--out", w.home / "r", "--set", word),
            ("--set", "option of its own"),
            "typed",
        )
        for word in ("dim=5", "policy=note")
    ],
    (
        "typed: a space of 10^12 dimensions",
        lambda w: ("train", "clip", "--data", w.phantom.folder, "--out", w.home / "r", "--dim", 10**12),
        ("dim", "65536"),
        "typed",
    ),
    (
        "typed: points that say another split",
        lambda w: ("evaluate", pair_with(w, split="val"), "--data", w.phantom.folder),
        ("test-", "split", "'val'"),
        "typed",
    ),
    (
        "typed: points whose split leads elsewhere",
        lambda w: ("evaluate", pair_with(w, split="../../../x"), "--data", w.phantom.folder),
        ("test-", "split", "'../../../x'"),
        "typed",
    ),
    (
        "typed: claims of a margin beyond all bounds",
        lambda w: (
            "claims",
            w.home,
            "--data",
            w.phantom.folder,
            "--out",
            w.home / "b",
            "--claims",
            w.write("c.toml", CLAIM.format(margin="inf", arm="'a'")),
        ),
        ("c.toml", "margin", "above 100"),
        "typed",
    ),
    (
        "typed: claims of an arm that is a number",
        lambda w: (
            "claims",
            w.home,
            "--data",
            w.phantom.folder,
            "--out",
            w.home / "b",
            "--claims",
            w.write("c.toml", CLAIM.format(margin=0.1, arm=5)),
        ),
        ("c.toml", "arm", "text"),
        "typed",
    ),
    (
        "typed: claims nested deep",
        lambda w: (
            "claims",
            w.home,
            "--data",
            w.phantom.folder,
            "--out",
            w.home / "b",
            "--claims",
            w.write("c.toml", "x = " + "[" * 20_000),
        ),
        ("c.toml", "deep"),
        "typed",
    ),
    (
        "typed: K above the gallery",
        lambda w: (
            "evaluate",
            w.foreign(lambda mu: mu),
            "--data",
            w.phantom.folder,
            "--protocol",
            "exact",
            "--k",
            1,
            9999,
        ),
        ("K = 9999 left out",),
        "typed, counted",
    ),
]


@pytest.fixture
def w(made, tmp_path):
    return Workspace(tmp_path, made)


def test_the_table_is_large_enough_and_names_differ():
    kinds = [kind for *_, kind in CASES]
    assert len({name for name, *_ in CASES}) == len(CASES) and kinds.count("refused") + kinds.count("counted") >= 60
    assert sum(kind.startswith("typed") for kind in kinds) >= 15


@pytest.mark.parametrize(
    "name, make, words, kind",
    [case for case in CASES if not case[3].startswith("typed")],
    ids=[case[0] for case in CASES if not case[3].startswith("typed")],
)
def test_bad_input(w, capfd, name, make, words, kind):
    before, run = tree(w.out), tree(w.run)
    if name == "a film that may not be read":
        w.picture().chmod(0)
    capfd.readouterr()
    if kind == "refused":
        with pytest.raises(ValueError) as caught:
            make(w)
        line = str(caught.value)
        assert "\n" not in line and len(line) < 700 and all(word in line for word in words), line
        assert tree(w.out) == before and not (w.home / "new" / "studies.parquet").exists()
        assert not [path.name for path in w.home.rglob(".*") if ".tmp" in path.name], "half a file was left behind"
    else:
        assert bool(make(w)), "it was not read as it should"
        said = "".join(capfd.readouterr())
        lines = [line for line in said.splitlines() if words and all(word in line for word in words)]
        assert len(lines) == bool(words), said
    assert {k: v for k, v in tree(w.run).items() if not k.startswith("evaluation")} == run


@pytest.mark.parametrize(
    "name, make, words, kind",
    [case for case in CASES if case[3].startswith("typed")],
    ids=[case[0] for case in CASES if case[3].startswith("typed")],
)
def test_bad_input_as_it_is_typed(w, medret, name, make, words, kind):
    before, run = tree(w.out), tree(w.run)
    done = medret(*make(w), OMP_NUM_THREADS="1")
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("medret: ")]
    if kind == "typed":
        assert done.returncode == 2 and len(lines) == 1 and done.stderr.rstrip().splitlines()[-1] == lines[0], (
            done.returncode,
            done.stderr,
        )
        assert all(word in lines[0] for word in words) and not re.search(r"[\x00-\x1f\x7f]", lines[0]), lines[0]
        assert tree(w.out) == before and not (w.home / "new" / "studies.parquet").exists()
    else:
        assert done.returncode == 0 and not lines, done.stderr
        assert (
            len([line for line in (done.stdout + done.stderr).splitlines() if all(word in line for word in words)]) == 1
        ), done.stdout + done.stderr
    assert tree(w.run) == run


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_all_goes_on_when_there_is_room(made, tmp_path):
    "A real disk of 600 kB; every stage fails in one line, keeps what was there, and works once there is room."
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by an administrator only")
    try:
        old = Path(shutil.copytree(made.old, disk / "old"))
        before, filler = tree(old), disk / "filler"
        big = StudySet(
            pd.DataFrame(
                {
                    "study_id": [f"s{k}" for k in range(200)],
                    "findings": [np.random.default_rng(k).bytes(60).hex() for k in range(200)],
                }
            ),
            NO_IMAGES,
        )
        jobs = {
            "set": lambda: big.save(old),
            "phantom": lambda: make_phantom(3, size=32, out=disk / "p", progress=False),
            "weights": lambda: CLIP.create(CLIPConfig(dim=16, size=32, max_words=32)).save_pretrained(disk / "r"),
            "points": lambda: embed(load_method(made.run), made.phantom, out=disk / "points", progress=False),
        }
        for name, job in jobs.items():
            with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            with pytest.raises(DataError, match="cannot write .*No space left") as caught:
                job()
            assert "\n" not in str(caught.value) and str(disk) in str(caught.value), name
            assert tree(old) == before and not [path for path in disk.rglob("*") if ".tmp" in path.name]
            filler.unlink()
        for name in ("points", "phantom", "set"):
            jobs[name]()
        assert (
            StudySet.load(old).hash() == big.hash()
            and len(StudySet.load(disk / "p")) == 3
            and len(Embeddings.load(disk / "points" / "all-text.parquet")) > 40
        )
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
