"""Curves for the lesson on training on a GPU: batch size, memory of losses, masked inputs, precision."""

import math
import time
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from medret_nb.training.loop import fit, validate

from .forms import csd_case, mls_case, naive_info_nce, nce_case, unit_rows
from .kernels import NAIVE_LIMIT
from .measure import Task, cost_of, step_of
from .training import Session, config_of

SIZES = (32, 64, 128, 256, 512, 1024)
USUAL = 64  # the batch for which the usual rate was chosen
COPIES = {"info_nce": 5 * 4, "csd": 2 * 4 * 512, "mls": 7.7 * 4 * 512}  # bytes a pair of the usual form, D=512
CASES = {"info_nce": nce_case, "csd": csd_case, "mls": mls_case}


def epochs_that_fit(world, studies, share):
    "How many epochs every batch size may have, so that all of them take `share` of what is left of the part."
    session = Session(world, world.tiny_method("clip"), studies, {"batch_size": USUAL if not world.quick else 8})
    session.run(5 if not world.quick else 1)
    count = 20 if not world.quick else 2
    step = session.run(count)[0] / count
    films = len(session.maker)
    steps = sum(films // size for size in sizes_of(world) for rate in rates_of(size))
    left = max(world.watch.part_left, 1) * share
    return max(1, min(1 if world.quick else 20, int(left / (steps * step))))


def sizes_of(world):
    return (8, 16) if world.quick else SIZES


def rates_of(size):
    "The usual rate, and the one scaled by the square root of the batch, where it is another."
    usual = {"as it is": 1e-3}
    return usual if size == USUAL else usual | {"scaled": 1e-3 * math.sqrt(size / USUAL)}


def batch_rows(world):
    "R@10 on the test films after equal numbers of films, by batch size."
    studies = getattr(world, "phantom", None)
    if studies is None:
        studies = world.small
    split = "test" if (studies.studies["split"] == "test").any() else "val"
    learned = studies.select(
        studies.studies.loc[studies.studies["split"] == "train", "study_id"]
    )  # nothing to choose by
    epochs = epochs_that_fit(world, learned, 0.5)
    for size in reversed(sizes_of(world)):
        for rate, lr in rates_of(size).items():
            method = world.tiny_method("clip", size=64)
            config, _ = config_of({"epochs": epochs, "batch_size": size, "lr": lr, "warmup": 0.05}, world)
            begun = time.perf_counter()
            fit(method, learned, config, world.scratch / f"batch-{size}-{lr:.5f}", progress=False)
            took = time.perf_counter() - begun
            method = method.to(world.device).eval()
            found = validate(method, studies, split)
            r10 = (found.get("i2t_r10", found["recall"]) + found.get("t2i_r10", found["recall"])) / 2
            what = f"R@10 ({split}), clip tiny, batch {size}, rate {rate} ({lr:.2g})"
            settings = {
                "batch_size": size,
                "lr": lr,
                "rate": rate,
                "epochs": epochs,
                "films": epochs * len(learned.studies),
            }
            note = f"{epochs} epochs of {len(learned.studies):,} studies; fit took {took:.1f} s"
            yield {
                "what": what,
                "value": r10,
                "unit": "",
                "better": "higher",
                "settings": settings | {"seconds": took},
                "note": note,
            }


def memory_rows(world, name):
    "Milliseconds and peak memory of a loss, whole and tiled, by the number of pairs."
    d = 512
    short = dict(about=0.1, most=5, warm=1)
    for n in (16, 32) if world.quick else (512, 1024, 2048, 4096, 8192, 16_384, 32_768):
        case = CASES[name](n, d, world.device)
        usual, usual_peak = "out of memory", None
        if COPIES[name] * n**2 < NAIVE_LIMIT:
            usual, usual_peak = cost_of(step_of(lambda c=case: c.naive(*c.leaves), case.leaves), world.device, **short)
        value, peak = cost_of(step_of(lambda c=case: c.ours(*c.leaves), case.leaves), world.device, **short)
        row = {"what": f"{name}, forward + backward, N={n} D={d}", "value": value, "unit": "ms", "naive": usual}
        settings = {"loss": name, "n": n, "d": d}
        yield row | {"peak_bytes": peak, "naive_bytes": usual_peak, "settings": settings}
        if name == "mls" and isinstance(value, float) and value > 800:  # four times that for the next
            return


def masked_batch(world, method, size, b, words=64):
    places = torch.arange(words, device=world.device).expand(b, 1, -1)
    rng = torch.Generator().manual_seed(0)
    return SimpleNamespace(
        pixels=torch.randn(b, 1, 1, size, size, generator=rng).to(world.device),
        tokens=torch.randint(5, len(world.tokenizer), (b, 1, words), generator=rng).to(world.device),
        key=torch.arange(b, device=world.device)[:, None],
        mask=places >= 0,
        word_ids=places,
        text_group=torch.arange(b, device=world.device),
    )


def masked_rows(world, size):
    "MCR's claim: one masked input for all tasks against whole and masked ones, by the share that is hidden."
    width, b = (64, 4) if world.quick else (384, 128 if size < 200 else 64)
    size = 32 if world.quick else size
    for share in (0.25, 0.5, 0.75):
        found = {}
        for inputs in ("two", "one"):
            method = world.masked_method(size, width, inputs=inputs, hidden_patches=share, hidden_words=0.5)
            method = method.to(world.device).train()
            batch = masked_batch(world, method, size, b)
            leaves = [p for p in method.parameters() if p.requires_grad]

            def step(method=method, batch=batch):
                with torch.autocast(world.device.type, torch.bfloat16, enabled=world.device.type == "cuda"):
                    return sum(method(batch).values())

            found[inputs] = cost_of(step_of(step, leaves), world.device, about=0.4, most=8)
            del method, leaves
        value, peak = found["one"]
        usual, usual_peak = found["two"]
        patches = (size // 8) ** 2
        what = f"MCR, one masked input against two, {size} px, {patches} patches, batch {b}, {share:.0%} hidden"
        row = {
            "what": what,
            "value": value,
            "unit": "ms",
            "naive": usual,
            "peak_bytes": peak,
            "naive_bytes": usual_peak,
        }
        yield row | {"settings": {"size": size, "hidden": share, "batch_size": b, "width": width}}


def precision_rows(world):
    "Pairs a second of ViT-B/16 on one held batch, and the loss in each precision."
    for precision in ("no", "tf32", "bf16", "fp16"):
        if precision in ("fp16", "tf32") and world.device.type == "cpu":
            continue
        asked = {"precision": precision, "batch_size": 16 if world.quick else 128}
        session = Session(world, world.big_method("clip"), world.large, asked)
        if session.lost:
            continue
        session.hold()
        session.run(2)
        if world.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(world.device)
        count = 2 if world.quick else 6
        took, _ = session.run(count)
        peak = torch.cuda.max_memory_allocated(world.device) if world.device.type == "cuda" else None
        yield {"what": f"clip, ViT-B/16, batch {session.batch_size}, {precision}, one held batch",
               "value": count * session.batch_size / took, "unit": "pairs/s", "better": "higher", "peak_bytes": peak,
               "settings": {"precision": precision}}  # fmt: skip
        session.close()


def exponent_rows(world):
    "Where exponentials of scores break: InfoNCE written out in half precision, against float64, by temperature."
    n, d = 512, 128
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        for scale in (1.0, 5.0, 14.3, 50.0, 100.0):
            a = unit_rows(n, d, world.device, torch.float64, seed=0).detach()
            b = F.normalize(a + 0.5 * unit_rows(n, d, world.device, torch.float64, seed=1).detach(), dim=1)
            exact = naive_info_nce(a, b, scale).item()
            scores = (scale * a @ b.T).to(kind)
            total = scores.exp().sum(1)
            written = (total.log() - scores.diagonal()).mean().item()
            steady = F.cross_entropy(scores.float(), torch.arange(n, device=world.device)).item()
            one_way = F.cross_entropy(scale * a @ b.T, torch.arange(n, device=world.device)).item()
            name = str(kind).removeprefix("torch.")
            far = abs(written - one_way)
            value = far if math.isfinite(far) else "not finite"
            note = f"exact {exact:.3g}; half scores, float32 sums: {abs(steady - one_way):.1e} off"
            yield {"what": f"InfoNCE written out in {name}, scale {scale}: error", "value": value, "unit": "nats",
                   "note": note, "settings": {"dtype": name, "scale": scale, "exact": exact}}  # fmt: skip


def tasks(world):
    made = [
        ("batch size", lambda: batch_rows(world), 8),
        *[(f"masked inputs {size}", lambda s=size: masked_rows(world, s), 4) for size in (224, 128)[world.quick :]],
        ("memory info_nce", lambda: memory_rows(world, "info_nce"), 2),
        ("memory csd", lambda: memory_rows(world, "csd"), 2),
        ("memory mls", lambda: memory_rows(world, "mls"), 2),
        ("exponentials", lambda: exponent_rows(world), 1),
        ("precision", lambda: precision_rows(world), 8),
    ]
    return [Task(name, rows, least) for name, rows, least in made if world.wanted(name)]
