"""What ``export``, ``bench`` and ``teacher-check`` print of their measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress import console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcompress.teacher_check import TeacherCheck
    from kdcompress_runtime.bundle import BundleMetadata


def print_exported(output: Path, metadata: BundleMetadata, targets: Sequence[str]) -> None:
    """Print the search's table, the decision, and where the files are; everything measured is in ``bundle.json``."""
    from kdcompress_export.quantization.rows import Row
    from kdcompress_export.quantization.table import COLUMNS, table_rows
    from kdcompress_export.targets.table import output_of

    measured = metadata.measured
    searched = measured.get("search", {})
    rows = [Row.from_json(row) for row in searched.get("rows", ())]
    if len(rows) > 1:
        cells = [line for line in zip(COLUMNS, *table_rows(rows, searched["chosen"]), strict=True) if any(line[1:])]
        console.stdout().print(f"{metadata.name}: candidates, one thread, {searched['cpu']}", markup=False)
        columns, *lines = zip(*cells, strict=True)
        console.print_columns(columns, lines)
    differs = f"differs from its origin by at most {measured['parity']['max_abs_diff']:.1e} nats"
    sizes = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in measured["size_bytes"].items())
    console.stdout().print(f"{metadata.default_precision} by default: {measured['default']['reason']}", markup=False)
    console.stdout().print(f"{sizes}; float32 {differs}", markup=False)
    for target in targets:
        console.stdout().print(f"{target}: {output_of(output, targets, target)}", markup=False)


def print_bench(report: dict[str, Any]) -> None:
    """Print the fields of a ``BenchReport`` as a table: precisions across, sizes and times down."""
    entries = report["precisions"]
    rows = [
        ("size, MB", *(f"{entry['size_bytes'] / 1e6:.2f}" for entry in entries)),
        ("load, ms", *(f"{entry['cold_load_ms']:.1f}" for entry in entries)),
        (f"{report['long']} at once, p50 ms", *(f"{entry['whole_ms']['p50']:.2f}" for entry in entries)),
    ]
    factors = [entry["whole_real_time_factor"] for entry in entries]
    if None not in factors:  # of audio
        rows.append(("real-time factor of that", *(f"{factor:.5f}" for factor in factors)))
    if not report["streaming"]:
        rows.append(("chunk, p50 / p95 ms", *("not streaming" for _ in entries)))
    for chunks in zip(*(entry["chunks"] for entry in entries), strict=True):
        times = (f"{chunk['step_ms']['p50']:.2f} / {chunk['step_ms']['p95']:.2f}" for chunk in chunks)
        rows.append((f"chunk of {chunks[0]['audio_ms']:.0f} ms, p50 / p95 ms", *times))
    title = f"{report['name']}: {report['cpu']}, one thread, onnxruntime {report['onnxruntime']}"
    console.print_table(title, ("", *(entry["precision"] for entry in entries)), rows)


def print_teacher_check(check: TeacherCheck) -> None:
    """Print the leak tests as a table, the verdict, and the sentence on the twin."""
    leak = check.leak
    told, low = ("shown reference", "near 0 %") if check.run.recipe.model.sees_labels else ("true text", "")
    tests = [
        ("nothing changed", "words of the reference", "high", leak.both_true),
        ("input is noise", f"words of the {told}", low, leak.noise_source),
        ("input is noise", "words of another reference: chance", "", leak.noise_chance),
        ("frames in random order", f"words of the {told}", low, leak.shuffled_frames),
        ("no reference shown", "words of the true text", "high", leak.empty_reference_true),
        ("wrong reference shown", "words of the shown reference", "near 0 %", leak.wrong_reference_given),
        ("wrong reference shown", "the same where it is not shown: chance", "", leak.wrong_reference_chance),
        ("wrong reference shown", "words of the true text", "high", leak.wrong_reference_true),
    ]
    rows = [(test, counted, wanted, f"{share:.1f} %") for test, counted, wanted, share in tests if share is not None]
    largest = f"{leak.padding_difference:.1e}, {'pass' if check.passed else 'FAIL'}"
    rows.append(("padding added", "change of a log-probability", "0", largest))
    name, kind = check.run.recipe.name, check.run.recipe.model.kind
    title = f"{name} ({kind}), {check.items} items of {check.manifest}; no recognition rates"
    console.print_table(title, ("test", "counted", "should be", "found"), rows, left=True)
    console.stdout().print(f"{name} {leak.verdict}", markup=False)
    if check.twin:
        console.stdout().print(check.twin.sentence, markup=False)
