"""One rank of two, under torchrun: the example to its end, and once more in two parts."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import torch.distributed as dist
from same import example


def main(root: Path) -> None:
    dist.init_process_group("gloo")
    loop = example("ddp_loop")
    for folder, parts in (("whole", [loop.EPOCHS]), ("stopped", [2, loop.EPOCHS])):
        (root / folder).mkdir(exist_ok=True)
        os.chdir(root / folder)
        for last in parts:
            loop.train(last)
    gc.collect()  # a DistributedDataParallel in a cycle outlives its group, and gloo then aborts at exit, now and then
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
