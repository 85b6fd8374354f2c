"""What targets that are bundles themselves share: choosing models, rewriting ``bundle.json``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.bundle import METADATA_FILE, TOKENS_FILE, ModelFile, sha256
from kdcompress_runtime.input_kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress_runtime.bundle import Bundle

TARGET_KEY = "target"
"""Key in ``provenance`` that names the target; a bundle without it is for onnxruntime."""


def chosen_models(bundle: Bundle, precisions: Sequence[str] | None) -> list[ModelFile]:
    """Return the models to retarget: those named, or the default one.

    Raises:
        BundleError: the bundle holds no such precision.
    """
    return [bundle.metadata.model_file(name) for name in precisions or (bundle.metadata.default_precision,)]


def bundle_files(
    bundle: Bundle,
    target: str,
    models: Mapping[str, tuple[str, bytes]],
    extra: Mapping[str, bytes],
    measured: Mapping[str, Any],
    *,
    decoder: bool,
) -> dict[str, bytes]:
    """Files of the bundle for ``target``, ``bundle.json`` first.

    Args:
        bundle: the finished bundle it is made from.
        target: its name, for ``provenance``; also the key under which ``measured`` goes.
        models: file name and content, by precision.
        extra: further files.
        measured: what was measured for this target.
        decoder: keep the tuned decoder with its files; a runtime that only decodes greedily needs none.
    """
    before = bundle.metadata
    tokens = bundle.read(TOKENS_FILE)
    sizes = {precision: len(content) for precision, (_, content) in models.items()}
    settings = before.decoder_settings if decoder else None
    names = (settings.lm, settings.lexicon) if settings is not None else ()
    kept = [*KINDS[before.input.kind].files, *filter(None, names)]
    contents = {TOKENS_FILE: tokens, **dict(models.values()), **{name: bundle.read(name) for name in kept}}
    contents |= extra
    metadata = replace(
        before,
        models=tuple(ModelFile(precision, name) for precision, (name, _) in models.items()),
        default_precision=before.default_precision if before.default_precision in models else next(iter(models)),
        decoder=before.decoder if decoder else {},
        measured={**before.measured, target: {"size_bytes": sizes, **measured}},
        provenance={**before.provenance, TARGET_KEY: target},
        files={name: sha256(content) for name, content in contents.items()},
    )
    return {METADATA_FILE: metadata.dumps().encode(), **contents}
