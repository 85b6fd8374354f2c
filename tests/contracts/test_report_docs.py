"""Every command and line of code in docs/report.md runs as it stands there, and its tables say what the code does."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest

from kdcompress.cli import main
from kdcompress_evaluation.budget import FIGURES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
QUICK = ["--no-speed"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(run, folder, tmp_path_factory):
    """A folder with what the page names: two bundles, a test manifest, the texts of another system."""
    from kdcompress_export import ExportOptions, SearchOptions, export_run

    place = tmp_path_factory.mktemp("report-page")
    for name in ("small-bundle", "big-bundle"):
        export_run(run, place / name, ExportOptions(quantization=SearchOptions(quantize="none")))
        described = json.loads((place / name / "bundle.json").read_text(encoding="utf-8"))
        assert described["name"] != name
    lines = [json.loads(line) for line in (folder / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    with (
        (place / "test.jsonl").open("w", encoding="utf-8") as manifest,
        (place / "other-system.jsonl").open("w", encoding="utf-8") as other,
    ):
        for number, line in enumerate(lines):
            row = {**line, "id": f"u{number}", "length": "short" if number % 2 else "long"}
            manifest.write(json.dumps(row) + "\n")
            other.write(json.dumps({"id": row["id"], "text": row["text"]}) + "\n")
    for file in folder.glob("dev*.wav"):
        shutil.copy(file, place / file.name)
    return place


def test_the_commands_of_the_page_then_its_code(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for block in blocks("bash"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "kdcompress"
            timed = ("report" in words and "--budget" in words) or "--rows" in words or "report:" in line
            code = main([*words[1:], *([] if timed else QUICK)])
            told = capsys.readouterr()
            assert code in ({0, 3} if "--budget" in words else {0}), f"{line}: {told.err}"
            if "--shard" not in words:
                assert told.out.strip(), line
    assert (place / "report" / "report.csv").is_file()
    report = json.loads((place / "mixed" / "report.json").read_text(encoding="utf-8"))
    assert {one["field"] for one in report["slices"]} >= {"length"}
    namespace: dict = {}
    for code in blocks("python"):
        exec(compile(code, "report.md", "exec", dont_inherit=True), namespace)
    assert "Estimate(" in capsys.readouterr().out


def test_the_table_of_bounds_is_that_of_the_code():
    told = dict(re.findall(r"^\| `([a-z_0-9]+)[<>]=[^`]*` \| (.+) \|$", PAGE, flags=re.MULTILINE))
    assert told == {name: figure.meaning for name, figure in FIGURES.items()}


def test_what_the_page_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


@pytest.mark.parametrize("name", ["digits", "sentences"])
def test_the_kept_reports_follow_from_their_kept_rows(name, tmp_path):
    from kdcompress_evaluation.derive import summarise

    kept = ROOT / "docs" / "reports" / name
    with tarfile.open(kept / "rows.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    summary = summarise(tmp_path)
    assert len({v.info.bundle_path for v in summary.variants}) >= 7
    assert {v.info.precision for v in summary.variants} == {"float32", "int8"}
    told = (kept / "report.md").read_text(encoding="utf-8")
    page = (kept / "report.html").read_text(encoding="utf-8")
    for variant in summary.variants:
        rate = f"{100 * variant.pooled.metrics['wer'].value:.2f}"
        assert re.search(rf"{re.escape(variant.info.name)}\*{{0,2}} \| \*{{0,2}}{rate} \(", told), variant.info.name
        assert rate in page
    assert summary.verdict is not None
    assert told.startswith(f"# Ship {summary.verdict.ships}" if summary.verdict.ships else "# Do not ship")
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_the_kept_report_of_three_tasks_follows_from_its_rows(tmp_path):
    from kdcompress_evaluation.derive import summarise

    kept = ROOT / "docs" / "reports" / "tasks"
    with tarfile.open(kept / "rows.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    told, page = ((kept / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    for task, metric in (("speech", "wer"), ("scene_text", "ser"), ("translation", "chrf")):
        summary = summarise(tmp_path / task)
        assert (summary.run.task, summary.primary.name, len(summary.variants)) == (task, metric, 4)
        assert summary.headline in told
        for variant in summary.variants:
            rate = f"{100 * variant.pooled.metrics[metric].value:.2f}"
            assert re.search(rf"{re.escape(variant.info.name)}\*{{0,2}} \| \*{{0,2}}{rate} \(", told), variant.info.name
            assert rate in page
        assert summary.resampled_by == ("receipt" if task == "scene_text" else "utterance")
