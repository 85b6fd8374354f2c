"""Other people's libraries, imported and run without their chatter and without the network."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_LOGGERS = ("transformers", "optimum", "torch.onnx", "huggingface_hub")


@contextmanager
def quiet_and_offline() -> Iterator[None]:
    """Inside, Hugging Face libraries read local files only and say nothing; errors pass. All is put back after.

    They fix at their first import whether they are offline, so that import belongs inside, too; each call names
    ``local_files_only`` besides.
    """
    before = {name: os.environ.get(name) for name in _OFFLINE}
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    os.environ.update(_OFFLINE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from transformers.utils import logging as transformers_logging

            chatter: Any = transformers_logging

            bars = chatter.is_progress_bar_enabled()
            levels = [logger.level for logger in loggers]
            chatter.disable_progress_bar()
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            try:
                yield
            finally:
                for logger, level in zip(loggers, levels, strict=True):
                    logger.setLevel(level)
                if bars:
                    chatter.enable_progress_bar()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
