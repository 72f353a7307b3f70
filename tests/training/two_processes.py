"""Run by test_processes.py, alone and on two processes: losses and gradients of every method go to a safetensors file.

A third argument is the number of studies that are encoded at a time.
"""

import gc
import os
import sys
from contextlib import nullcontext

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from medret_nb.data.batches import BatchMaker
from medret_nb.data.studies import StudySet
from medret_nb.methods.table import METHODS
from medret_nb.training.cached import CachedGradients, mean_gradients
from medret_nb.training.processes import gather_across

data, out = sys.argv[1:3]
micro = int(sys.argv[3]) if len(sys.argv) > 3 else 0
world = int(os.environ.get("WORLD_SIZE", 1))
rank = int(os.environ.get("RANK", 0))
if world > 1:
    dist.init_process_group("gloo")
torch.set_num_threads(1)
studies = StudySet.load(data)
found = {}
for name, cls in METHODS.items():
    torch.manual_seed(0)
    method = cls.create(seed=1).eval()  # eval: dropout off
    model = method
    if world > 1:
        method.gather, model = gather_across, DistributedDataParallel(method)
    batch = next(BatchMaker.for_method(studies, method, seed=3).epoch(0, 12, rank=rank, world=world))
    if micro:
        terms = CachedGradients(method, micro, nullcontext)(batch, lambda loss: loss.backward())
        if world > 1:
            mean_gradients(list(method.parameters()))
    else:
        terms = model(batch)
        sum(terms.values()).backward()
    for key, value in terms.items():
        found[f"{name}/loss/{key}"] = value.detach().reshape(1)
    for key, parameter in method.named_parameters():
        if parameter.grad is not None:
            found[f"{name}/grad/{key}"] = parameter.grad.contiguous()
if rank == 0:
    save_file(found, out)
if world > 1:
    del method, model, terms  # what holds the group goes before it, and no process leaves before the other is done
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()
