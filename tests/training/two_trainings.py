"""Run by test_processes.py on two processes: a training, the same killed and gone on with, and one in parts."""

import dataclasses
import sys
from pathlib import Path

from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.training.loop import TrainConfig, fit

data, out = sys.argv[1:3]
studies = StudySet.load(data)
config = TrainConfig(epochs=2, batch_size=8, checkpoint_steps=2, device="cpu")
seen = []


def train(name, resume=False, until=None, **changes):
    """One training from the same start; `until` a step, where it is interrupted in both processes."""
    method = CLIP.create(CLIPConfig(dim=16), seed=0)
    forward = method.forward

    def counted(batch):
        seen.append(batch)
        if until and len(seen) > until:
            raise KeyboardInterrupt
        return forward(batch)

    seen.clear()
    if until:
        method.forward = counted
    try:
        fit(method, studies, dataclasses.replace(config, **changes), Path(out) / name, resume=resume, progress=False)
    except KeyboardInterrupt:
        assert until


train("whole")
train("killed", until=3)
train("killed", resume=True)
train("parts", micro_batch=2)
