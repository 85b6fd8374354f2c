"""The corpora that ``kdcompress prepare`` reads, and what reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress.data.corpora.an4 import read_an4
from kdcompress.data.corpora.common_voice import read_common_voice
from kdcompress.data.corpora.folder import read_folder
from kdcompress.data.corpora.kaldi import read_kaldi
from kdcompress.data.corpora.lhotse_cuts import read_lhotse
from kdcompress.data.corpora.librispeech import read_librispeech
from kdcompress.data.corpora.nemo import read_nemo
from kdcompress.data.corpora.speechocean import read_speechocean762

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress.data.corpora.base import Adapter

CORPORA: Mapping[str, Adapter] = {
    "librispeech": read_librispeech,
    "an4": read_an4,
    "speechocean762": read_speechocean762,
    "common-voice": read_common_voice,
    "kaldi": read_kaldi,
    "nemo": read_nemo,
    "lhotse": read_lhotse,
    "folder": read_folder,
}
