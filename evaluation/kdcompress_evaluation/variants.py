"""Variants: a system at one precision, with a unique name for tables and files."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.errors import BundleError, KdcompressError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_evaluation.summary import BrokenVariant


LOSSES_SHOWN = 2
"""More losses than this are not named beside a teacher."""


@dataclass(frozen=True)
class VariantInfo:
    """What is known about a variant before anything is measured."""

    name: str
    """Unique in a report; also the stem of its files."""
    kind: str
    """What it is: ``bundle``, ``seq2seq`` (an autoregressive translator of Hugging Face), ``huggingface``,
    ``sherpa-onnx`` or ``predictions`` (texts of another system)."""
    anchor: bool
    """Shown for comparison, for example a teacher; never chosen."""
    task: str
    """``speech``, ``scene_text`` or ``translation``; empty: any."""
    input_kind: str
    """What it is fed: ``audio``, ``image``, ``text`` or ``any``."""
    bundle_name: str
    """Name in ``bundle.json``; that of the folder or file where there is none."""
    bundle_path: str
    """Where it was read."""
    precision: str
    """``float32``, ``int8``...; empty where nobody knows."""
    engine: str
    """What runs it, with version: ``onnxruntime 1.23.0``; empty for texts of another system."""
    format_version: int | None
    """Of ``bundle.json`` as it lies there; ``None``: it is no bundle."""
    files: dict[str, str]
    """SHA-256 of every file that it is made of, by name."""
    model_file: str
    """Name of the file with the model (or the texts) among those."""
    model_sha256: str
    """Of that file."""
    tokens_sha256: str
    """Of the token table; empty where there is none."""
    geometry_sha256: str
    """Of everything else that decides what is recognised; of ``bundle.json`` the fields that do."""
    size_bytes: int | None
    """To ship: the model, what must lie beside it, and the language model that its decoder needs; ``None``: unknown."""
    parameters: int | None
    """Trained parameters; ``None``: unknown."""
    sample_rate: int | None
    """Hz; ``None``: it is fed no audio, or nobody knows."""
    lookahead_ms: float | None
    """How far the output lags the input; ``None`` when the model takes whole recordings, or does not say."""
    chunk_ms: float | None
    """Audio in one streaming step; ``None`` when the model takes whole recordings."""
    provenance: dict[str, Any]
    """As in ``bundle.json``: teacher, method, recipe, data fingerprints, versions, licence."""
    measured: dict[str, Any]
    """As in ``bundle.json``: what export proved."""
    options: dict[str, Any] = field(default_factory=dict)
    """How it searches, where that is its own matter: ``{"beams": 4}`` of an autoregressive model."""

    @property
    def streaming(self) -> bool:
        """Whether it recognises in chunks."""
        return self.chunk_ms is not None

    @property
    def method(self) -> str:
        """How the model was trained, in the words of its provenance: from whom, and by which losses beside CTC."""
        stated = self.provenance.get("method")
        if stated:
            return str(stated)
        found = self.provenance.get("run")
        run = found if isinstance(found, dict) else {}
        named = [
            f"{teacher['name']} ({teacher.get('kind', 'teacher')})"
            for teacher in _teachers(run)
            if isinstance(teacher, dict) and teacher.get("name")
        ]
        named = named or [Path(str(path)).name for path in _teachers(self.provenance)]
        losses = _losses(run)
        if named:
            by = f", by {' and '.join(losses)}" if 0 < len(losses) <= LOSSES_SHOWN else ""
            return f"from {' and '.join(named)}{by}"
        if "recipe" not in self.provenance:
            return "not stated"
        return f"labels, with {' and '.join(losses)}" if losses else "labels only"


def _losses(run: dict[str, Any]) -> list[str]:
    """Losses of the run beside CTC; bundles of the first versions do not name them."""
    losses = run.get("losses")
    return [str(loss) for loss in losses if loss != "ctc"] if isinstance(losses, list) else []


def _teachers(content: dict[str, Any]) -> list[Any]:
    """The list ``teachers``, or the one ``teacher`` that bundles of the first version name."""
    several, one = content.get("teachers"), content.get("teacher")
    if isinstance(several, list):
        return several
    return [one] if one else []


def plan_variants(
    paths: Sequence[Path], precisions: str = "default", anchors: Sequence[Path] = ()
) -> tuple[list[VariantInfo], list[BrokenVariant]]:
    """Open everything that is to be evaluated, and list the variants.

    Args:
        paths: bundles (folders or ``.zip``), Hugging Face exports, sherpa-onnx models, ``.jsonl`` predictions.
        precisions: ``default`` (one of each), ``all``, or the name of one precision. Anchors that do not hold it, and
            predictions, which have none, are taken as they are.
        anchors: more of them, shown for comparison.

    Returns:
        The variants, anchors last, and what cannot be opened, with the reason; the others go on without it.

    Raises:
        OptionsError: nothing to evaluate, or something given twice.
        KdcompressError: nothing can be opened; that of the first.
    """
    if not paths:
        raise OptionsError("no bundle to evaluate; give at least one folder or .zip that `kdcompress export` wrote")
    everything = [*paths, *anchors]
    counts = Counter(path.resolve() for path in everything)
    twice = [str(path) for path, count in counts.items() if count > 1]
    if twice:
        raise OptionsError(f"bundle given twice: {', '.join(twice)}; name each bundle once")
    found: list[VariantInfo] = []
    broken: list[tuple[Path, Exception]] = []
    for number, path in enumerate(everything):
        try:
            found += _open(path, precisions, anchor=number >= len(paths))
        except (KdcompressError, OSError) as error:  # noqa: PERF203 - each path stands for itself
            broken.append((path, error))
    if not any(not variant.anchor for variant in found):
        raise broken[0][1]
    return _named(found), _broken(broken)


def _open(path: Path, precisions: str, *, anchor: bool) -> list[VariantInfo]:
    from kdcompress_evaluation.systems import describe  # its modules make variants

    try:
        found = describe(path, precisions)
    except BundleError:
        if not anchor or precisions in {"default", "all"}:
            raise
        found = describe(path, "default")
    return [replace(variant, anchor=anchor) for variant in found]


def _broken(found: Sequence[tuple[Path, Exception]]) -> list[BrokenVariant]:
    from kdcompress_evaluation.summary import BrokenVariant  # which holds variants itself

    return [BrokenVariant(str(path), f"{type(error).__name__}: {error}") for path, error in found]


def _named(variants: Sequence[VariantInfo]) -> list[VariantInfo]:
    """Give every variant a name of its own."""
    places = dict.fromkeys((variant.bundle_name, variant.bundle_path) for variant in variants)
    bases = dict(zip(places, _unique([(name, Path(path)) for name, path in places]), strict=True))
    named = []
    for variant in variants:
        base = bases[variant.bundle_name, variant.bundle_path]
        way = slug(variant.name.removeprefix(variant.bundle_name)) if variant.name != variant.bundle_name else ""
        named.append(replace(variant, name=f"{base}-{way.lstrip('-')}" if way else base))
    return named


def find_baseline(variants: Sequence[VariantInfo], wanted: str | None) -> VariantInfo:
    """Return the variant that others are compared with.

    Args:
        variants: of this report.
        wanted: name of a variant, or of a bundle (its float32 variant when there is one); ``None``: the first bundle.

    Raises:
        OptionsError: nothing has that name.
    """
    for variant in variants:
        if wanted == variant.name:
            return variant
    bundle = variants[0].bundle_path if wanted is None else None
    same = [v for v in variants if wanted in {v.bundle_name, Path(v.bundle_path).stem} or v.bundle_path == bundle]
    if not same:
        known = ", ".join(variant.name for variant in variants)
        raise OptionsError(f"no variant or bundle is called {wanted!r}; choose the baseline among: {known}")
    return next((v for v in same if v.precision == "float32"), same[0])


def slug(name: str) -> str:
    """Return ``name`` with only letters, digits, ``_``, ``-``, ``@`` and dots inside: safe as a file name."""
    return re.sub(r"[^\w.@-]+", "-", name).strip(".-") or "unnamed"


def _unique(named: Sequence[tuple[str, Path]]) -> list[str]:
    """Bundle names as slugs; those that share one get the name of their folder, then a number."""
    slugs = [slug(name) for name, _ in named]
    counts = Counter(slugs)
    unique: list[str] = []
    for base, (_, path) in zip(slugs, named, strict=True):
        name = base if counts[base] == 1 else f"{base}@{slug(path.stem)}"
        number, candidate = 2, name
        while candidate in unique:
            candidate, number = f"{name}-{number}", number + 1
        unique.append(candidate)
    return unique
