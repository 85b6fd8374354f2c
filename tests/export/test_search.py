"""The search decides by what it measured, keeps float32 where it must, and goes on where it was interrupted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kdcompress_export.agreement import Agreement
from kdcompress_export.error_rates import ErrorRate, ItemErrors, PairedDifference, References, combine
from kdcompress_export.errors import BudgetNotMetError, BudgetSyntaxError, ExportError, QuantizationError
from kdcompress_export.quantization.budget import parse_budget
from kdcompress_export.quantization.decide import Rules, choose, objections, runner_up
from kdcompress_export.quantization.measure import Rounds, dominated
from kdcompress_export.quantization.mixed import mix
from kdcompress_export.quantization.options import SearchOptions
from kdcompress_export.quantization.repairs import Repair
from kdcompress_export.quantization.rows import Row
from kdcompress_export.quantization.schemes import find_scheme
from kdcompress_export.quantization.search import search
from kdcompress_export.quantization.sensitivity import LayerSensitivity, Sensitivity
from kdcompress_export.quantization.table import COLUMNS, markdown, table_rows
from kdcompress_export.source import Source
from kdcompress_export.timing import Milliseconds
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.model import CtcModel

QUICK = Rounds(whole=2, chunk=4)
FLOAT = Row("float32", "float32", size_bytes=1000, size_ratio=1.0, whole_ratio=1.0, chunk_ratio=1.0)
DEV = replace(FLOAT, rate=ErrorRate(10.0, 5.0), words=2000)


def row(name="static", *, size=0.3, speed=3.0, wer=0.0, low=-0.1, high=0.1, same=0.99, measured=True, **more):
    found = Row(
        name,
        "int8",
        size_bytes=round(1000 * size),
        size_ratio=size,
        whole_ratio=speed,
        chunk_ratio=speed,
        chunk=Milliseconds(1.0, 2.0, 1.0),
        agreement=Agreement(100, 0.01, 0.1, same),
        **more,
    )
    if not measured:
        return found
    return replace(
        found, rate=ErrorRate(10.0 + wer, 5.0), words=2000, total=2000, difference=PairedDifference(wer, low, high)
    )


def kinds(one, rules=None):
    return {objection.kind for objection in objections(one, rules or Rules())}


def test_what_speaks_against_a_candidate():
    assert kinds(row()) == set()
    assert kinds(row(speed=0.9)) == {"slow"}
    assert kinds(row(same=0.8)) == {"agreement"}
    assert kinds(row(wer=0.9, low=0.5, high=1.3)) == {"errors"}
    assert kinds(row(wer=0.3, low=0.1, high=0.7)) == {"errors"}
    assert kinds(row(wer=0.1, low=-0.6, high=0.8)) == {"few"}
    assert kinds(row(wer=0.1, low=-0.6, high=0.8), Rules(allowed_points=1.0)) == set()
    assert kinds(Row("x", "int8", refused="it does not fit")) == {"made"}
    assert kinds(row(), Rules(budget=parse_budget("size<=200B"))) == {"budget"}
    # A bound on errors takes the place of the allowed points.
    assert kinds(row(wer=0.9, low=0.5, high=1.3), Rules(budget=parse_budget("wer<=+2"))) == set()


def test_the_cheapest_that_is_not_worse_wins():
    rows = [DEV, row("big", size=0.5, speed=3.5), row("good"), row("worse", size=0.2, wer=2.0, low=1.0, high=3.0)]
    best, choice = choose(rows, Rules())
    assert (best.name, choice.precision) == ("good", "int8")
    assert "0.30x the size" in choice.reason
    assert "95 % interval -0.10 to +0.10" in choice.reason


def test_within_the_noise_of_timing_the_closer_to_float32_wins_not_the_luckier():
    lucky = replace(row("a", speed=3.1, wer=-0.2), agreement=Agreement(100, 0.05, 0.1, 0.99))
    rows = [DEV, lucky, row("b")]
    assert choose(rows, Rules())[0].name == "b"


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (row(speed=0.8), "slower than float32 on this CPU (0.80x"),
        (row(same=0.5), "the same label in only 50.0 %"),
        (row(wer=1.0, low=0.5, high=1.5), "makes more errors (+1.00 points"),
        (row(wer=0.0, low=-2.0, high=2.0), "2000 words are too few to tell"),
    ],
)
def test_float32_wins_and_says_why(one, words):
    best, choice = choose([DEV, one], Rules())
    assert best is DEV
    assert choice.precision == "float32"
    assert words in choice.reason
    assert runner_up([DEV, one], Rules()) is one


def test_nothing_made_and_nothing_asked_are_said():
    refused = Row("x", "int8", refused="broken")
    assert "no smaller file could be made (x: broken)" in choose([DEV, refused], Rules())[1].reason
    assert choose([DEV], Rules())[1].reason == "nothing smaller was asked for"


def test_without_dev_agreement_decides_and_the_reason_says_so():
    _, choice = choose([FLOAT, row(measured=False)], Rules())
    assert choice.precision == "int8"
    assert "no dev manifest" in choice.reason
    # Where others were measured, one that was not is never chosen.
    assert choose([DEV, row(measured=False)], Rules())[1].precision == "float32"


def test_a_slower_file_wins_only_where_float32_misses_the_budget():
    slow = row("weights-4bit", size=0.2, speed=0.7)
    assert choose([DEV, slow], Rules())[1].precision == "float32"
    assert choose([DEV, slow], Rules(budget=parse_budget("size<=2KB")))[1].precision == "float32"
    best, choice = choose([DEV, slow], Rules(budget=parse_budget("size<=300B")))
    assert best is slow
    assert "although it is faster" in choice.reason
    assert choose([DEV, slow], Rules(budget=parse_budget("size<=100B")))[0] is None


def test_one_that_is_beaten_in_both_size_and_speed_need_not_be_recognised():
    small, large = row("small"), row("large", size=0.5, speed=2.0)
    assert dominated(large, [small, large]) == "small"
    assert dominated(small, [small, large]) == ""
    assert dominated(replace(large, size_ratio=0.25), [small]) == ""
    assert dominated(replace(small, whole_ratio=2.9), [small]) == ""


def sensitivity(count):
    layers = [LayerSensitivity((f"w{index}",), 0.0, float(count - index)) for index in range(count)]
    return Sensitivity("dynamic", 10, 1.0, tuple(layers))


@pytest.mark.parametrize("needed", [1, 2, 3, 5, 8])
def test_mixing_keeps_the_fewest_guilty_layers(needed):
    tried = []

    def attempt(scheme):
        tried.append(scheme.keep_float)
        return replace(row(), name=scheme.name)

    def passes(_):
        return len(tried[-1]) >= needed

    rows = list(mix(find_scheme("dynamic"), sensitivity(16), attempt, passes, lambda _: False))
    assert tried[0] == ("w0",)
    assert len(rows) == len(tried) == len(set(tried))
    assert min(len(kept) for kept in tried if len(kept) >= needed) == needed
    assert all(kept == tuple(f"w{index}" for index in range(len(kept))) for kept in tried)


def test_mixing_gives_up_where_it_is_hopeless_or_half_is_float32():
    attempts = []

    def attempt(scheme):
        attempts.append(len(scheme.keep_float))
        return row()

    assert len(list(mix(find_scheme("dynamic"), sensitivity(16), attempt, lambda _: False, lambda _: True))) == 1
    attempts.clear()
    list(mix(find_scheme("dynamic"), sensitivity(12), attempt, lambda _: False, lambda _: False))
    assert attempts == [1, 2, 4, 6]


def test_error_types_are_told_apart():
    floating = ItemErrors((1, 0), (0, 0), (0, 1), characters=(3, 2))
    small = ItemErrors((1, 0), (2, 1), (0, 0), characters=(4, 5))
    rates = combine(References("f", (5, 5), (25, 25)), {"float32": floating, "int8": small})
    assert (rates.rates["int8"].deletions, rates.rates["float32"].deletions) == (30.0, 0.0)
    assert rates.rates["int8"].wer == 40.0
    assert rates.errors["int8"].words == (3, 1)
    assert rates.paired("int8", "float32").points == 20.0


# The whole search, on a tiny student.


@pytest.fixture(scope="module")
def source(floating, run):
    content, model = floating
    folder = run.parent
    return Source(
        content,
        model.metadata,
        model.vocabulary,
        parity={},
        calibration=folder / "train.jsonl",
        dev=folder / "dev.jsonl",
    )


@pytest.fixture(scope="module")
def result(source):
    lines, steps = [], []
    options = SearchOptions(rounds=QUICK, subset_size=3, allowed_points=100.0, sensitivity=True)
    found = search(source, options, lines.append, lambda *one: steps.append(one))
    return found, lines, steps


def test_every_candidate_has_a_row(result):
    found, lines, steps = result
    names = [one.name for one in found.rows]
    assert names[0] == "float32"
    assert {"static-u8s8-minmax-all", "static-u8s8-entropy", "dynamic", "weights-4bit", "float16"} <= set(names)
    for one in found.rows[1:]:
        assert one.refused or (one.size_ratio < 1 and one.whole_ratio > 0 and one.agreement.frames > 0)
        assert one.refused or one.rate or one.note.startswith("errors not counted")
        assert one.refused or sum(one.quantized.values()) in {5, 8}
    assert any("Quantizing" in line for line in lines)
    assert any("Measuring which layers" in line for line in lines)
    assert any("dev.jsonl" in label and done == count == 4 for label, done, count in steps)


def test_the_result_is_what_a_bundle_records(result, source):
    found, _, _ = result
    measured = json.loads(json.dumps(found.measured))
    precision = next(name for name in found.contents if name != "float32")
    assert measured["size_bytes"] == {name: len(content) for name, content in found.contents.items()}
    proof = measured[precision]
    for key in ("agreement", "probe", "splits", "speed", "calibration", "quantized_nodes", "scheme"):
        assert key in proof
    assert proof["scheme"] == found.shipped
    assert measured["error_rates"]["rates"].keys() == {"float32", precision}
    assert measured["error_rates"]["utterances"] == 4
    assert measured["default"]["precision"] == found.choice.precision
    assert len(measured["search"]["rows"]) == len(found.rows)
    assert measured["search"]["sensitivity"]["layers"]
    model = CtcModel(found.contents[precision], source.metadata, source.vocabulary)
    assert model.init_states().keys() == source.load().init_states().keys()


def test_the_table_shows_every_candidate_once(result):
    found, _, _ = result
    cells = table_rows(found.rows, found.chosen)
    assert all(len(line) == len(COLUMNS) for line in cells)
    assert [line[0] for line in cells if line[0].endswith("*")] == [f"{found.chosen} *"]
    assert markdown(found.rows).count("\n") == len(found.rows) + 2


def test_an_interrupted_search_goes_on(source, tmp_path, monkeypatch):
    options = SearchOptions("dynamic", rounds=QUICK, subset_size=2, dev_limit=2, work=tmp_path / "work")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kdcompress_export.quantization.search.add_speed", stop)
        with pytest.raises(KeyboardInterrupt):
            search(source, options)
    first = search(source, options)
    with monkeypatch.context() as patch:
        patch.setattr("kdcompress_export.quantization.search.apply_repaired", stop)
        patch.setattr("kdcompress_export.inputs.Recordings.asked", stop)
        again = search(source, options)
    assert again.contents == first.contents
    assert again.rows[1].rate == first.rows[1].rate
    assert not list((tmp_path / "work").glob("*.partial"))
    damaged = next((tmp_path / "work").glob("*.onnx"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert search(source, options).contents == first.contents


def test_float32_alone(source):
    found = search(source, SearchOptions("none", dev_limit=2))
    assert list(found.contents) == ["float32"]
    assert (found.choice.precision, found.shipped, found.chosen) == ("float32", "", "float32")
    assert found.measured["error_rates"]["rates"].keys() == {"float32"}


def test_a_named_scheme_is_kept_and_one_that_does_not_fit_is_an_error(source):
    found = search(replace(source, dev=None), SearchOptions("weights-4bit", rounds=QUICK))
    assert list(found.contents) == ["float32", "int4"]
    assert found.shipped == "weights-4bit"
    assert "no dev manifest" in found.measured["error_rates"]
    with pytest.raises(QuantizationError, match="needs recordings"):
        search(replace(source, calibration=None, dev=None), SearchOptions("static-u8s8-minmax", rounds=QUICK))


def test_a_budget_is_met_or_refused_with_the_nearest_miss(source):
    options = SearchOptions("dynamic", rounds=QUICK, subset_size=2, dev_limit=2, budget="size<=10KB")
    found = search(source, options)
    assert not found.verdict.met
    assert found.verdict.nearest == "dynamic"
    assert found.verdict.misses["size<=10KB"] > 1
    with pytest.raises(BudgetNotMetError, match=r"nearest is dynamic: misses size<=10KB \(found"):
        found.require_budget()
    met = search(source, replace(options, budget="size<=10MB"))
    assert met.verdict.met
    met.require_budget()


def test_repairs_are_rows_of_their_own_and_see_what_they_need(source):
    seen = {}

    def before(content, calibration):
        seen["before"] = (content == source.content, len(calibration.recordings))
        return content

    def after(content, quantized, calibration):
        seen["after"] = (content == source.content, len(quantized) < len(content), len(calibration.recordings))
        return quantized

    repair = Repair("nothing", before, after, kinds=("dynamic",))
    options = SearchOptions("dynamic", rounds=QUICK, subset_size=2, dev_limit=2, repairs=(repair,))
    found = search(source, options)
    assert [one.name for one in found.rows] == ["float32", "dynamic", "dynamic + nothing"]
    assert seen == {"before": (True, 2), "after": (True, True, 2)}


def test_calibration_and_proof_stay_apart(source):
    with pytest.raises(ExportError, match="hold the same items"):
        search(replace(source, dev=source.calibration), SearchOptions("none"))


@pytest.mark.parametrize("bad", [{"quantize": "int9"}, {"cpu": "z80"}, {"subset_size": 0}, {"allowed_points": -1.0}])
def test_bad_options_are_refused(bad):
    with pytest.raises(OptionsError):
        SearchOptions(**bad)


def test_a_bad_budget_is_refused_before_anything_is_done():
    with pytest.raises(BudgetSyntaxError):
        SearchOptions(budget="tiny")
