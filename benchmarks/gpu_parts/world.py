"""What the parts share: the device, made-up studies of any number and size, methods large and small."""

import functools
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd
import torch
from PIL import Image

from medret_nb.data.devices import use_device
from medret_nb.data.files import shipped_data
from medret_nb.data.studies import StudySet
from medret_nb.data.tables import FINDINGS
from medret_nb.data.tokens import load_tokenizer
from medret_nb.methods.backbones import TINY_TEXT, TINY_VIT
from medret_nb.methods.rra_vl import REGIONS
from medret_nb.methods.table import METHODS

PLACES = ("right", "left", "bilateral")
SEEN = ("pleural effusion", "consolidation", "atelectasis", "pneumothorax", "nodule", "opacity", "edema")
GRADES = ("small", "moderate", "large", "new", "unchanged", "resolving")
ZONES = ("upper zone", "mid zone", "lower zone", "base", "apex")
LARGE_FILMS = dict(
    model_type="vit",
    image_size=224,
    patch_size=16,
    num_channels=1,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
LARGE_TEXTS = dict(
    model_type="bert",
    vocab_size=30_522,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    max_position_embeddings=512,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
)


def sentence(rng):
    grade, place, seen, zone = (rng.choice(words) for words in (GRADES, PLACES, SEEN, ZONES))
    return f"{grade} {place} {seen} in the {zone}."


def report(rng):
    "A report of about fifty words."
    said = [sentence(rng) for _ in range(rng.integers(3, 8))]
    return " ".join(["The heart is normal in size.", *said, "No acute bony abnormality."])


def films_of(count, size, folder, rng):
    "Write `count` soft random films of size pixels, by threads."
    seeds = rng.integers(0, 2**32, count)

    def draw(k):
        coarse = np.random.default_rng(seeds[k]).integers(20, 230, (7, 7), dtype=np.uint8)
        film = Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR)
        film.save(folder / f"{k}.png", compress_level=1)

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(draw, range(count)))


def make_believe(train, val, size, folder, films=2):
    "A StudySet of random films and template reports, two films a study, with boxes on the first."
    rng = np.random.default_rng(size)
    count = train + val
    folder.mkdir(parents=True, exist_ok=True)
    films_of(films * count, size, folder, rng)
    ids = [f"s{i}" for i in range(count)]
    kinds = [FINDINGS[i] for i in rng.integers(1, len(FINDINGS), count)]
    studies = pd.DataFrame(
        {
            "study_id": ids,
            "patient_id": [f"p{i}" for i in range(count)],
            "split": ["train"] * train + ["val"] * val,
            "findings": [report(rng) for _ in range(count)],
            "impression": [sentence(rng) for _ in range(count)],
            "labels": [{kind: 1} for kind in kinds],
        }
    )
    images = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(films * count)],
            "study_id": [ids[k // films] for k in range(films * count)],
            "path": [f"{k}.png" for k in range(films * count)],
            "view": ["PA" if k % films == 0 else "LATERAL" for k in range(films * count)],
        }
    )
    named = REGIONS[:6]
    regions = pd.DataFrame(
        {
            "image_id": np.repeat([f"i{films * i}" for i in range(count)], len(named)),
            "region": list(named) * count,
            "label": np.repeat(kinds, len(named)),
            "value": 1,
            "kind": "anatomy",
            "source": "silver",
        }
    )
    corners = rng.uniform(0.05, 0.5, (len(regions), 2))
    regions[["x0", "y0"]] = corners
    regions[["x1", "y1"]] = corners + 0.4
    made = StudySet(studies, images, regions, {"name": "made up", "restricted": False}, folder)
    made.save(folder)
    return StudySet.load(folder)


class World:
    "Options, the device, a folder for what is made on the way, and the studies."

    def __init__(self, options, scratch, watch):
        self.options = options
        self.quick = options.quick
        self.rows = options.rows
        self.scratch = scratch
        self.watch = watch
        name = options.device
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        use_device(str(self.device))
        torch.manual_seed(0)

    def wanted(self, name):
        "Whether a row of this name was asked for."
        return not self.rows or any(word in name for word in self.rows)

    def machine(self):
        "What the numbers were measured on."
        told = {"device": "cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)}
        told |= {"cores": os.cpu_count(), "python": platform.python_version()}
        for name in ("torch", "triton", "transformers", "numpy", "accelerate", "faiss-cpu", "faiss-gpu"):
            try:
                told[name] = version(name)
            except PackageNotFoundError:
                told[name] = "none"
        if self.device.type == "cuda":
            told["memory"] = f"{torch.cuda.get_device_properties(self.device).total_memory / 2**30:.0f} GiB"
        return told

    @functools.cached_property
    def tokenizer(self):
        return load_tokenizer(shipped_data("tiny/text"))

    @functools.cached_property
    def small(self):
        "8,192 studies of 64 px (64 in miniature), with 512 to validate."
        train, val = (64, 16) if self.quick else (8192, 512)
        return make_believe(train, val, 64, self.scratch / "small")

    @functools.cached_property
    def large(self):
        "4,096 studies of 224 px (32 of 32 px in miniature)."
        train, val, size = (32, 8, 32) if self.quick else (4096, 256, 224)
        return make_believe(train, val, size, self.scratch / "large")

    def tiny_method(self, name, **settings):
        "A method with the tiny encoders and random heads."
        kind = METHODS[name]
        return kind.create(kind.Config(**settings))

    def big_method(self, name, **settings):
        "A method with ViT-B/16 and a text encoder of BERT-base's size, random weights; in miniature far smaller."
        kind = METHODS[name]
        films = dict(LARGE_FILMS)
        texts = dict(LARGE_TEXTS)
        if self.quick:
            small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
            films |= small | dict(image_size=32, patch_size=8)
            texts |= small | dict(vocab_size=len(self.tokenizer), max_position_embeddings=192)
        elif self.device.type == "cuda":
            torch.set_default_device(self.device)  # random weights are drawn there much faster
        torch.manual_seed(0)
        size = dict(size=32 if self.quick else 224)
        try:
            return kind(kind.Config(image_backbone=films, text_backbone=texts, **size, **settings), self.tokenizer)
        finally:
            torch.set_default_device(None)

    def masked_method(self, size, width, **settings):
        "MCR with a ViT of this width on films of this size."
        kind = METHODS["mcr"]
        backbones = dict(
            image_backbone=TINY_VIT
            | dict(image_size=size, hidden_size=width, num_attention_heads=width // 64, intermediate_size=4 * width),
            text_backbone=TINY_TEXT
            | dict(vocab_size=len(self.tokenizer), hidden_size=width, intermediate_size=4 * width),
        )
        torch.manual_seed(0)
        return kind(kind.Config(size=size, **backbones, **settings), self.tokenizer)
