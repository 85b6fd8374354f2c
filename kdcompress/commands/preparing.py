"""``kdcompress prepare``: a corpus becomes manifests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kdcompress import console
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress.data.corpora.base import Source
    from kdcompress.data.corpora.writing import PrepareOptions

app = typer.Typer(help="Turn a corpus into manifests.", no_args_is_help=True)


@app.command("digits")
def prepare_digits_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for manifests and audio.")],
    source: Annotated[Path, typer.Option(help="The packed Free Spoken Digit Dataset.")] = Path("data/fsdd"),
    seed: Annotated[int, typer.Option(help="Which strings are made.")] = 1,
    noise: Annotated[Path | None, typer.Option(help="Manifest of noises to mix into dev and test.")] = None,
) -> None:
    """Join spoken digits into strings of 3 to 7: train, dev and test manifests at 8 kHz."""
    from kdcompress.data.digits import prepare_digits
    from kdcompress.data.noisy_sets import NoiseConfig

    with console.progress_bar("digits") as update:
        manifests = prepare_digits(
            source,
            output,
            seed=seed,
            noise=NoiseConfig(noise) if noise else None,
            on_progress=lambda split, done, total: update(done, total, split),
        )
    for path in manifests.values():
        console.stdout().print(str(path))


@app.command("sentences")
def prepare_sentences_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for manifests and audio.")],
    source: Annotated[Path, typer.Option(help="Folder with train, dev and test .jsonl, such as speechocean762.")],
    units: Annotated[
        Literal["characters", "phones"], typer.Option(help="References as words, or as phones through lexicon.txt.")
    ] = "characters",
    noise: Annotated[
        Path | None, typer.Option(help="Manifest of noises to mix into dev and test, at 5, 10 and 15 dB.")
    ] = None,
    sample_rate: Annotated[int, typer.Option(help="Hz of the audio written.")] = 16000,
    on_unusable: Annotated[
        Literal["error", "skip"], typer.Option(help="Whether an unusable text is an error or left out, and counted.")
    ] = "error",
) -> None:
    """Make a corpus of sentences ready for training: texts normalised, audio decoded once."""
    from kdcompress.data.noisy_sets import NoiseConfig
    from kdcompress.data.sentences import SNR_DB, prepare_sentences

    with console.progress_bar("sentences") as update:
        manifests = prepare_sentences(
            source,
            output,
            units=units,
            sample_rate=sample_rate,
            noise=NoiseConfig(noise, SNR_DB, SNR_DB) if noise else None,
            on_unusable=on_unusable,
            on_progress=lambda split, done, total: update(done, total, split),
        )
    for path in manifests.values():
        console.stdout().print(str(path))


SourceArgument = Annotated[Path, typer.Argument(metavar="SOURCE", help="The corpus, as its publishers lay it out.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder for manifests and report.")]
SplitOption = Annotated[
    list[str] | None, typer.Option("--split", metavar="NAME", help="Only this split of the corpus; may be repeated.")
]
TextOption = Annotated[
    Literal["keep", "lower", "normalised"],
    typer.Option(help="Texts as they are, in small letters, or as a-z, apostrophe and blank alone."),
]
WithoutTextsOption = Annotated[
    bool, typer.Option("--without-texts", help="Take audio without transcripts; texts are empty.")
]
RateOption = Annotated[
    int | None, typer.Option(help="Write all audio as FLAC at this rate (Hz); left out: audio stays where it is.")
]
CheckOption = Annotated[
    Literal["headers", "decode", "none"],
    typer.Option(help="Read every file's header, decode every file, or trust the corpus where it says how long."),
]
UnusableOption = Annotated[
    Literal["error", "skip"], typer.Option(help="Whether unusable items are an error or left out, counted and listed.")
]
DevOption = Annotated[
    float | None, typer.Option(help="Share of the speakers for dev; 0.05 where the corpus has no splits, else 0.")
]
TestOption = Annotated[float | None, typer.Option(help="The same for test.")]
SplitByOption = Annotated[
    Literal["speaker", "id"], typer.Option(help="Deal out speakers, or items whoever speaks them.")
]
SharedOption = Annotated[
    Literal["error", "warn"], typer.Option(help="When a speaker is in training and in dev or test.")
]
AudioRootOption = Annotated[Path | None, typer.Option(help="Where relative paths of the corpus start.")]
SpeakerFoldersOption = Annotated[
    bool, typer.Option("--speaker-folders", help="A file's folder names its speaker; for `prepare folder`.")
]
JobsOption = Annotated[int, typer.Option(min=1, help="Threads that look at audio and write it.")]

CORPUS_HELP = {
    "librispeech": "LibriSpeech: SUBSET/SPEAKER/CHAPTER/*.flac with *.trans.txt; each subset is a split.",
    "an4": "CMU AN4: etc/an4_train.fileids and .transcription, audio below wav/ (SPHERE, WAV, raw).",
    "speechocean762": "speechocean762: Kaldi directories train and test with WAVE/, or a copy with manifests.",
    "common-voice": "Common Voice, one language: train.tsv, dev.tsv, test.tsv and clips/.",
    "kaldi": "A Kaldi data directory, or a folder of them: then each is a split.",
    "nemo": "A NeMo manifest, or a folder of them: then each is a split.",
    "lhotse": "lhotse cuts (.jsonl, .jsonl.gz), or a folder of them: then each is a split.",
    "folder": "Audio files with a .txt beside each, or with one transcripts.csv or .tsv.",
}


WITH_PATHS = ("speechocean762", "kaldi", "nemo", "lhotse", "folder")
"""Corpora that name their audio by paths."""


def _add_corpus(kind: str) -> None:
    """Add the command of a corpus; all take the same options."""

    @app.command(kind, help=CORPUS_HELP[kind])
    def command(
        source: SourceArgument,
        output: OutputOption,
        split: SplitOption = None,
        text: TextOption = "keep",
        without_texts: WithoutTextsOption = False,
        sample_rate: RateOption = None,
        check: CheckOption = "headers",
        on_unusable: UnusableOption = "error",
        dev_share: DevOption = None,
        test_share: TestOption = None,
        split_by: SplitByOption = "speaker",
        shared_speakers: SharedOption = "error",
        audio_root: AudioRootOption = None,
        speaker_folders: SpeakerFoldersOption = False,
        jobs: JobsOption = 1,
    ) -> None:
        from kdcompress.data.corpora.base import Source
        from kdcompress.data.corpora.writing import PrepareOptions

        _refuse_idle_options(kind, audio_root, speaker_folders)
        options = PrepareOptions(
            text=text,
            sample_rate=sample_rate,
            check=check,
            on_unusable=on_unusable,
            dev_share=dev_share,
            test_share=test_share,
            split_by=split_by,
            shared_speakers=shared_speakers,
            jobs=jobs,
        )
        where = Source(
            source,
            without_texts=without_texts,
            audio_root=audio_root and audio_root.absolute(),
            speaker_folders=speaker_folders,
            splits=tuple(split or ()),
        )
        _prepare(kind, where, output, options)


for _kind in CORPUS_HELP:
    _add_corpus(_kind)


def _refuse_idle_options(kind: str, audio_root: Path | None, speaker_folders: bool) -> None:
    """Refuse what would change nothing.

    Raises:
        OptionsError: the corpus knows its speakers, or where its audio lies.
    """
    if speaker_folders and kind != "folder":
        raise OptionsError(f"--speaker-folders is for `prepare folder`; {kind} says itself who speaks")
    if audio_root is not None and kind not in WITH_PATHS:
        raise OptionsError(f"--audio-root is for {', '.join(WITH_PATHS)}; the layout of {kind} says where its audio is")


def _prepare(kind: str, source: Source, output: Path, options: PrepareOptions) -> None:
    """Prepare a corpus and print its report, then the paths of its manifests."""
    from kdcompress.data.corpora.adapters import CORPORA
    from kdcompress.data.corpora.writing import REPORT_FILE, prepare_corpus

    with console.progress_bar(kind) as update:
        made = prepare_corpus(
            kind,
            CORPORA[kind],
            source,
            output,
            options=options,
            on_progress=lambda stage, done, total: update(done, total, stage),
        )
    if made.reused:
        console.info(f"{output} is there, made from the same corpus with the same settings; remove it to make it again")
    _print_report(made.report)
    for warning in made.report["warnings"]:
        console.info(f"warning: {warning}")
    for path in (*made.manifests.values(), Path(output).absolute() / REPORT_FILE):
        console.stdout().print(str(path), markup=False)


def _print_report(report: Mapping[str, Any]) -> None:
    columns = ("split", "items", "hours", "speakers", "shortest s", "longest s", "Hz")
    rows = [
        (
            split,
            f"{row['items']:,}",
            f"{row['hours']:.2f}",
            f"{row['speakers']:,}",
            *("-" if row[name] is None else f"{row[name]:.2f}" for name in ("shortest_seconds", "longest_seconds")),
            ", ".join(row["sample_rates"]) or "-",
        )
        for split, row in report["splits"].items()
    ]
    console.print_table(f"{report['kind']}: {report['source']}", columns, rows)
    alphabet, texts, outliers = report["alphabet"], report["texts"], report["outliers"]
    rare = ", ".join(f"{one['character']!r} x{one['count']}" for one in alphabet["rare"][:10])
    frequent = texts["most_frequent"][:1]
    lines = [
        f"alphabet: {len(alphabet['counts'])} characters {''.join(alphabet['counts'])[:80]!r}",
        f"rare: {alphabet['rare_count']} of them{f', {rare}' if rare else ''}",
        f"texts: {texts['different']:,} different, {texts['empty']:,} empty",
        *(f"most frequent: {one['text'][:60]!r}, {one['count']:,} times" for one in frequent),
    ]
    if outliers["median_characters_a_second"] is not None:
        lines.append(
            f"characters a second: median {outliers['median_characters_a_second']}; "
            f"{outliers['far_too_many_characters']:,} item(s) with over three times as many, "
            f"{outliers['far_too_few_characters']:,} with under a third"
        )
    for line in lines:
        console.stdout().print(line, markup=False)
