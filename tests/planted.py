"""A method of two functions: what it knows is planted, so what a measure must find is known."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn


class Planted(nn.Module):
    """`film` and `text` give the points of films (S, S) and texts: arrays (D,)."""

    name = "planted"
    similarity = "cosine"
    regions = ()

    def __init__(self, film: Callable, text: Callable, policy: str = "findings"):
        super().__init__()
        self.config = SimpleNamespace(size=64, inference_policy=policy)
        self.film = film
        self.text = text
        self.kept: list[str] = []

    def prepare_pixels(self, films):
        return torch.as_tensor(np.asarray(films))

    def prepare_text(self, texts):
        self.kept = list(texts)
        rows = torch.arange(len(texts))[:, None]
        return rows, torch.ones_like(rows, dtype=torch.bool)

    def encode_image(self, films, boxes=None):
        points = [self.film(film) for film in films.numpy()]
        return SimpleNamespace(mu=torch.tensor(np.stack(points), dtype=torch.float32), logvar=None, local={})

    def encode_text(self, tokens, mask):
        points = [self.text(text) for text in self.kept]
        return SimpleNamespace(mu=torch.tensor(np.stack(points), dtype=torch.float32), logvar=None, local={})


def noise_of(anything, size: int = 16) -> np.ndarray:
    """A point that belongs to these bytes alone."""
    data = anything.encode() if isinstance(anything, str) else anything.tobytes()
    return np.random.default_rng(list(data)).normal(size=size)
