"""Tuning the decoder of a bundle on dev recordings, and writing what was found into the bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdcompress_export.bundle_writer import check_replaceable, write_bundle
from kdcompress_export.decoder_tuning.calibration import CalibrationReport, cross_validate, fit_calibration
from kdcompress_export.decoder_tuning.dev_set import read_dev_set
from kdcompress_export.decoder_tuning.options import TuneOptions
from kdcompress_export.decoder_tuning.report import TriedDecoder, TuneReport
from kdcompress_export.decoder_tuning.resources import Resources, check_unseen, read_resources
from kdcompress_export.decoder_tuning.search import search
from kdcompress_export.decoder_tuning.trials import Trials
from kdcompress_export.errors import ExportError
from kdcompress_runtime.bundle import METADATA_FILE, Bundle, sha256
from kdcompress_runtime.decoder_settings import LEXICON_FILE, LM_FILE, DecoderSettings
from kdcompress_runtime.model import CtcModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress_export.decoder_tuning.dev_set import DevSet
    from kdcompress_export.decoder_tuning.search import Found
    from kdcompress_export.decoder_tuning.trials import Trial
    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.confidence import Calibration
    from kdcompress_runtime.decoders import DecoderOptions

    Progress = Callable[[str, int, int], None]

_UNTUNED = "greedy, untuned"
_ALWAYS = ("blank_penalty",)
_BEAM = ("beam_width",)
_FUSION = {"word": ("alpha", "beta", "unk_score"), "token": ("alpha", "beta")}


def tune_decoder(
    bundle: Path,
    dev: Path,
    output: Path | None = None,
    options: TuneOptions | None = None,
    on_progress: Progress | None = None,
) -> TuneReport:
    """Find the decoder that makes the fewest errors on a dev manifest, calibrate its confidences, keep both.

    Args:
        bundle: folder or ``.zip``.
        dev: manifest of recordings that the model was not trained on, and that will not be tested on.
        output: where the tuned bundle goes; in the place of ``bundle`` when left out. Either whole or not at all.
        options: how to tune.
        on_progress: called with what is done, how much of it, and how much there is.

    Raises:
        ExportError: the manifest holds what the model was trained on, or the output cannot be written.
        BundleError, ModelError: the bundle cannot be used.
        ManifestError, AudioError: the manifest or a recording cannot be read.
        LanguageModelError, OptionsError: the language model or the lexicon does not fit the bundle.
    """
    options, output, progress = options or TuneOptions(), output or bundle, on_progress or _silent
    opened = Bundle.open(bundle)
    check_replaceable(output, overwrite=True)
    check_unseen(opened.metadata, dev)
    resources = read_resources(options)
    dev_set = _read(opened, dev, options, progress)
    trials = Trials(
        dev_set, opened.vocabulary, resources.lm, resources.lexicon, origin=resources.origin, work=options.work
    )
    found = search(trials, options, lambda done, count: progress("Trying decoders", done, count))
    calibration, confidence, note = _calibrate(trials, found.chosen, options.seed)
    used = Resources() if found.chosen.options.kind == "greedy" else resources
    settings = DecoderSettings(
        found.chosen.options.kind,
        _searched(found.chosen.options, used),
        LM_FILE if LM_FILE in used.files else None,
        LEXICON_FILE if LEXICON_FILE in used.files else None,
        calibration,
    )
    report = replace(
        _report(opened.metadata, trials, found, resources, options),
        output=str(output),
        decoder=settings.to_json(),
        confidence=confidence,
        confidence_note=note,
    )
    write_bundle(output, _contents(opened, settings, used, report))
    return report


def _silent(label: str, done: int, count: int) -> None:
    """Tell nobody."""


def _read(bundle: Bundle, dev: Path, options: TuneOptions, progress: Progress) -> DevSet:
    model = CtcModel.from_bundle(bundle, options.precision)
    file = bundle.metadata.model_file(options.precision).file
    label = f"Reading {dev.name}"
    return read_dev_set(
        model,
        bundle.metadata.files[file],
        dev,
        work=options.work,
        limit=options.limit,
        on_item=lambda done, count: progress(label, done, count),
    )


def _calibrate(trials: Trials, chosen: Trial, seed: int) -> tuple[Calibration | None, CalibrationReport | None, str]:
    """Calibration of the chosen decoder, what it brings, or why there is none."""
    words = trials.judge(chosen.options)
    try:
        report = cross_validate(words, trials.dev.speakers, seed)
    except ExportError as error:
        return None, None, str(error)
    return fit_calibration(words.raw, words.right), report, ""


def _searched(options: DecoderOptions, resources: Resources) -> dict[str, Any]:
    """Options that the search chose."""
    names = [*_ALWAYS]
    if options.kind == "beam":
        names += _BEAM
        names += _FUSION[resources.lm.unit] if resources.lm is not None else ()
    return {name: getattr(options, name) for name in names}


def _report(
    metadata: BundleMetadata, trials: Trials, found: Found, resources: Resources, options: TuneOptions
) -> TuneReport:
    """All but what was written."""
    named = {_UNTUNED: found.greedy, "greedy": found.tuned_greedy}
    named |= {f"beam {trial.options.beam_width}": trial for trial in found.widths}
    chosen = next(name for name, trial in named.items() if trial is found.chosen and name != _UNTUNED)
    named[chosen] = named.pop(chosen)  # to the end
    dev, rates = trials.dev, trials.rates(named)
    return TuneReport(
        bundle=metadata.name,
        output="",
        precision=metadata.model_file(options.precision).precision,
        manifest=str(dev.manifest),
        fingerprint=dev.references.fingerprint,
        utterances=len(dev.ids),
        words=rates.words,
        frames=dev.frames,
        decoder={},
        reason=found.reason,
        tried=tuple(
            TriedDecoder(name, _searched(trial.options, resources), rates.rates[name], trial.seconds)
            for name, trial in named.items()
        ),
        trials=len(trials.done),
        out_of=found.out_of,
        difference=rates.paired(chosen, _UNTUNED, options.seed),
        confidence=None,
        confidence_note="",
        lm=resources.lm_info,
        lexicon=resources.lexicon_info,
    )


def _contents(bundle: Bundle, settings: DecoderSettings, resources: Resources, report: TuneReport) -> dict[str, bytes]:
    """Files of the tuned bundle, ``bundle.json`` first; those of a decoder it had before are left out."""
    before = bundle.metadata
    old = before.decoder_settings
    gone = {old.lm, old.lexicon} if old is not None else set()
    files = {name: bundle.read(name) for name in before.files if name not in gone} | dict(resources.files)
    data = before.provenance.get("data")
    tuning = {"manifest": report.manifest, "fingerprint": report.fingerprint}
    provenance = {**before.provenance, "data": {**(data if isinstance(data, dict) else {}), "tuning": tuning}}
    used = {"lm": resources.lm_info, "lexicon": resources.lexicon_info}
    decoder = {name: row for name, row in used.items() if row is not None}
    measured = {name: value for name, value in report.to_json().items() if name not in ("output", "decoder")}
    metadata = replace(
        before,
        decoder=settings.to_json(),
        measured={**before.measured, "decoder": measured},
        provenance={**provenance, "decoder": decoder},
        files={name: sha256(content) for name, content in files.items()},
    )
    return {METADATA_FILE: metadata.dumps().encode(), **files}
