"""What ``export`` and ``bench`` print of their measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress import console

if TYPE_CHECKING:
    from pathlib import Path

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
