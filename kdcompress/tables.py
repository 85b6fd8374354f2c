"""What ``export``, ``bench`` and ``teacher-check`` print of their measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress import console

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.teacher_check import TeacherCheck
    from kdcompress_runtime.bundle import BundleMetadata


def print_exported(output: Path, metadata: BundleMetadata) -> None:
    """One line on the decision, one on each file; everything measured is in ``bundle.json``."""
    measured = metadata.measured
    console.stdout().print(
        f"{output}: {metadata.default_precision} by default; {measured['default']['reason']}", markup=False
    )
    rates = measured["error_rates"]["rates"] if isinstance(measured["error_rates"], dict) else {}
    for model in metadata.models:
        parts = [f"{measured['size_bytes'][model.precision] / 1e6:.2f} MB"]
        if model.precision in rates:
            parts.append(f"dev WER {rates[model.precision]['wer']:.2f} %")
        if model.precision == "float32":
            parts.append(f"differs from torch by at most {measured['parity']['max_abs_diff']:.1e} nats")
        else:
            parts.append(f"{measured[model.precision]['quantized_nodes']} quantized nodes")
        console.stdout().print(f"  {model.precision:<8} {', '.join(parts)}", markup=False)


def print_bench(report: dict[str, Any]) -> None:
    """Print the fields of a ``BenchReport`` as a table: precisions across, sizes and times down."""
    entries = report["precisions"]
    rows = [
        ("size, MB", *(f"{entry['size_bytes'] / 1e6:.2f}" for entry in entries)),
        ("load, ms", *(f"{entry['cold_load_ms']:.1f}" for entry in entries)),
        ("10 s at once, p50 ms", *(f"{entry['whole_ms']['p50']:.2f}" for entry in entries)),
        ("real-time factor of that", *(f"{entry['whole_real_time_factor']:.5f}" for entry in entries)),
    ]
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
        ("input is noise", f"words of the {told}", low, leak.noise_source),
        ("frames in random order", f"words of the {told}", low, leak.shuffled_frames),
        ("no reference shown", "words of the true text", "high", leak.empty_reference_true),
        ("wrong reference shown", "words of the shown reference", "near 0 %", leak.wrong_reference_given),
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
