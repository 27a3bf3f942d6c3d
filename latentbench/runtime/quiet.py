"""The console belongs to the run: libraries draw no bars on it and report no routine."""

from __future__ import annotations

import logging
import warnings

CHATTY = ("httpx", "urllib3", "filelock", "fsspec", "transformers", "datasets", "huggingface_hub")


def quieten_libraries() -> None:
    """Errors of the libraries still show; their progress bars and routine remarks do not."""
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning's hints are about automatic optimisation and data loading; neither is used here.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
