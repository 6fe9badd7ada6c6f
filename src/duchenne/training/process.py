"""One of the processes that train a fold; :mod:`duchenne.training.launch` starts it."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import warnings
from pathlib import Path

from duchenne.errors import UserError
from duchenne.processes import end_with

WRONG_INPUT = 2
"""Exit status of a process that stopped with a message for the user."""


def main() -> None:
    """Train; what fails is reported to the launcher, which says it once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # PyTorch warns in each process of a network without unused parameters, which are allowed here
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(_train)(Path(sys.argv[1]))
    except UserError:
        sys.exit(WRONG_INPUT)
    except Exception:
        sys.exit(1)


def _train(job: Path) -> None:
    parent, level, threads, arguments = pickle.loads(job.read_bytes())
    end_with(parent)  # the launcher in it could then not end this process
    if os.environ["RANK"] != "0":  # the first one speaks for all
        level = logging.ERROR
        warnings.simplefilter("ignore")
    logging.basicConfig(level=level, format="%(message)s")

    import torch

    from duchenne.training.fold import train_fold

    torch.set_num_threads(threads)
    train_fold(**arguments)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
