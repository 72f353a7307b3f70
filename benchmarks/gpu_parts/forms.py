"""The losses as they are usually written, all pairs at once: what ours are compared with, in time and in value."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from medret_nb.losses.contrastive import info_nce
from medret_nb.losses.gaussian import matching_loss, mls
from medret_nb.losses.region_word import region_word_scores


def clouds(n, d, device, dtype=torch.float32, seed=0):
    "Means and log-variances of n Gaussians that want gradients."
    rng = torch.Generator().manual_seed(seed)
    mu = torch.randn(n, d, generator=rng)
    logvar = torch.rand(n, d, generator=rng) * 4 - 3
    return [x.to(device, dtype).requires_grad_() for x in (mu, logvar)]


def unit_rows(n, d, device, dtype=torch.float32, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=rng), dim=1).to(device, dtype).requires_grad_()


def naive_mls(mu_x, logvar_x, mu_y, logvar_y):
    variance = logvar_x.exp()[:, None] + logvar_y.exp()[None]
    return -0.5 * ((mu_x[:, None] - mu_y[None]) ** 2 / variance + variance.log()).sum(-1)


def naive_csd_loss(mu_x, logvar_x, mu_y, logvar_y, scale=0.05, shift=5.0):
    square = ((mu_x[:, None] - mu_y[None]) ** 2).sum(-1)
    spread = (logvar_x.exp()[:, None] + logvar_y.exp()[None]).sum(-1)
    own = torch.eye(len(mu_x), device=mu_x.device, dtype=mu_x.dtype)
    return F.binary_cross_entropy_with_logits(shift - scale * (square + spread), own)


def naive_info_nce(a, b, scale=10.0):
    scores = scale * a @ b.T
    own = torch.arange(len(a), device=a.device)
    return 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own))


def naive_region_words(regions, words, mask, attention=4.0, pool=5.0):
    "GLoRIA's formulation: one report at a time, copied for every film."
    columns = []
    for word, there in zip(words, mask):
        own = word[there][None].expand(len(regions), -1, -1)  # (B, W, D)
        share = torch.bmm(regions, own.transpose(1, 2)).softmax(-1)  # (B, R, W)
        alpha = (attention * share.transpose(1, 2)).softmax(-1)  # (B, W, R)
        context = torch.bmm(alpha, regions)
        cosine = (context * own).sum(-1) / (context.norm(dim=-1) * own.norm(dim=-1)).clamp_min(1e-8)
        columns.append((pool * cosine).exp().sum(1).log())
    return torch.stack(columns, 1)


def region_word_inputs(b, regions, words, d, device, dtype=torch.float32, seed=0):
    "Regions (B, R, D), words (B, W, D), which want gradients, and the mask (B, W): texts of half to all words."
    rng = torch.Generator().manual_seed(seed)
    films = 0.1 * torch.randn(b, regions, d, generator=rng)
    texts = 0.1 * torch.randn(b, words, d, generator=rng)
    length = torch.randint(max(words // 2, 1), words + 1, (b,), generator=rng)
    mask = (torch.arange(words) < length[:, None]).to(device)
    return films.to(device, dtype).requires_grad_(), texts.to(device, dtype).requires_grad_(), mask


@dataclass
class Case:
    "One of our losses, the usual form of it, and what both are called with, which wants gradients."

    ours: Callable
    naive: Callable
    leaves: list


def gaussians(n, d, device, dtype=torch.float32):
    "The clouds of n films and of n texts: two means, two log-variances."
    return [part for seed in range(2) for part in clouds(n, d, device, dtype, seed)]


def mls_case(n, d, device, dtype=torch.float32):
    return Case(mls, naive_mls, gaussians(n, d, device, dtype))


def csd_case(n, d, device, dtype=torch.float32):
    return Case(lambda *c: matching_loss(*c, 0.05, 5.0), naive_csd_loss, gaussians(n, d, device, dtype))


def nce_case(n, d, device, dtype=torch.float32):
    rows = [unit_rows(n, d, device, dtype, seed) for seed in range(2)]
    return Case(lambda *c: info_nce(*c, 10.0), naive_info_nce, rows)


def region_case(b, regions, words, d, device, dtype=torch.float32):
    films, texts, mask = region_word_inputs(b, regions, words, d, device, dtype)
    return Case(lambda *c: region_word_scores(*c, mask), lambda *c: naive_region_words(*c, mask), [films, texts])
