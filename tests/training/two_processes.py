"Run by test_processes.py, alone and on two processes: losses and gradients of every method go to a safetensors file."

import os
import sys

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from medret_nb.data.batches import BatchMaker
from medret_nb.data.studies import StudySet
from medret_nb.methods.table import METHODS
from medret_nb.training.processes import gather_across

data, out = sys.argv[1:3]
world = int(os.environ.get("WORLD_SIZE", 1))
rank = int(os.environ.get("RANK", 0))
if world > 1:
    dist.init_process_group("gloo")
torch.set_num_threads(1)
found = {}
for name, cls in METHODS.items():
    torch.manual_seed(0)
    method = cls.create(seed=1).eval()  # eval: dropout off
    model = method
    if world > 1:
        method.gather, model = gather_across, DistributedDataParallel(method)
    maker = BatchMaker.for_method(StudySet.load(data), method, seed=3)
    terms = model(next(maker.epoch(0, 12, rank=rank, world=world)))
    sum(terms.values()).backward()
    for key, value in terms.items():
        found[f"{name}/loss/{key}"] = value.detach().reshape(1)
    for key, parameter in method.named_parameters():
        if parameter.grad is not None:
            found[f"{name}/grad/{key}"] = parameter.grad.contiguous()
if rank == 0:
    save_file(found, out)
if world > 1:
    dist.destroy_process_group()
