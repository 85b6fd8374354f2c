"""Recipes: every mistake is one clear sentence, and a resolved recipe reads back as itself."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from kdcompress.errors import RecipeError
from kdcompress.recipe import Recipe
from kdcompress.recipe_file import load_recipe, packaged_recipes

TEXT = """
schema: 1
name: small
data: {train: train.jsonl, dev: dev.jsonl}
model: {kind: separable_conv, width: 8, depth: 2, kernel: 5, lookahead_frames: 3}
train: {steps: 7, learning_rate: 2e-3}
"""
TEACHER = "model: {kind: oracle, heads: 2, encoder: {width: 8}}"
TAUGHT = "losses: [{kind: ctc, weight: 0.5}, {kind: frame_kl, weight: 0.5}]"


@pytest.fixture
def recipe_file(tmp_path):
    """``recipe_file("train: {step: 3}")``: the recipe above with sections replaced or added."""

    def make(*sections: str):
        tree = yaml.safe_load(TEXT)
        for section in sections:
            tree |= yaml.safe_load(section)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        return path

    return make


def message(path, *overrides) -> str:
    with pytest.raises(RecipeError) as problem:
        load_recipe(path, overrides)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_values_defaults_and_sections(recipe_file):
    recipe = load_recipe(recipe_file())
    assert (recipe.train.steps, recipe.train.learning_rate, recipe.train.batch_size) == (7, 0.002, 24)
    assert recipe.model.resolved().depth == 2
    assert recipe.distill is None
    assert str(recipe.data.train) == "train.jsonl"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("trian: {steps: 3}", ["unknown key 'trian'", "did you mean 'train'?"]),
        ("train: {stepps: 3}", ["unknown key 'train.stepps'", "did you mean 'steps'?"]),
        ("model: {kind: oracle, fusion_dept: 3}", ["unknown key 'model.fusion_dept'", "'fusion_depth'?"]),
        ("augment: {spec: {time_mask: 1}}", ["unknown key 'augment.spec.time_mask'", "'time_masks'?"]),
        ("oracle: {steps: 3}", ["unknown key 'oracle'"]),
        ("model: {kind: oracle, oracle: 1}", ["unknown key 'model.oracle'"]),
        ("xyzzy_plugh: 1", ["unknown key 'xyzzy_plugh'", "remove it"]),
        ("data: {dev: dev.jsonl}", ["key 'data.train' is missing"]),
        ("model: {width: 8}", ["model", "kind"]),
        ("model: {kind: transducer}", ["model", "'transducer'", "separable_conv"]),
        ("model: 3", ["model"]),
        ("augment: {gain_db: [6, -6]}", ["augment", "gain_db", "low to high"]),
        ("augment: {lead_in_s: [0.5, 0.1]}", ["augment", "lead_in_s", "low to high"]),
        ("augment: {lead_in_s: [-0.5, 0.1]}", ["lead_in_s", "greater than or equal to 0"]),
        ("train: {steps: many}", ["train.steps", "integer", "'many'"]),
        ("train: {steps: 0}", ["train.steps", "greater than or equal to 1", "found 0"]),
        ("train: {learning_rate: -1.0}", ["train.learning_rate", "greater than 0"]),
        ("train: {learning_rate: .nan}", ["train.learning_rate", "greater than 0"]),
        ("train: {warmup_fraction: 1.0}", ["train.warmup_fraction", "less than 1"]),
        ("train: {precision: float16}", ["train.precision", "'float32' or 'bf16'"]),
        ("schema: 2", ["schema", "1"]),
        ("name: a name", ["name", "'a name'"]),
        ("seed: -1", ["seed"]),
        ("augment: {speed: [0.9, 3.0]}", ["augment", "between 0.5 and 2"]),
        ("augment: {speed: []}", ["augment", "between 0.5 and 2"]),
        ("frontend: {sample_rate: 8000, high_freq: 4500}", ["frontend", "above half the rate"]),
        # combinations that cannot work
        (
            "model: {kind: separable_conv, depth: 2, kernel: 5, lookahead_frames: 9}",
            ["lookahead_frames 9", "at most 8"],
        ),
        ("model: {kind: oracle, heads: 3, encoder: {width: 8}}", ["width 8", "heads 3"]),
        ("model: {kind: conventional, encoder: {kernel: 4}}", ["model.encoder", "kernel must be odd"]),
        (f"{TEACHER}\n{TAUGHT}\ndistill: {{teachers: t}}", ["model.kind oracle", "remove the distill section"]),
        (TAUGHT, ["losses: 'frame_kl' needs a teacher; add a distill section"]),
        ("losses: [{kind: frame_kl, name: mine}]", ["losses: 'mine' needs a teacher"]),
        (
            "distill: {teachers: t}\nlosses: [{kind: ctc}]",
            ["distill: no loss looks at a teacher", "frame_kl"],
        ),
        ("losses: [{kind: ctc}, {kind: ctc}]", ["losses: 'ctc' is there twice; give each a `name`"]),
        ("losses: [{kind: ctc, name: cr_ctc}, {kind: cr_ctc}]", ["losses: 'cr_ctc' is there twice"]),
    ],
)
def test_every_mistake_is_one_sentence_that_names_the_key(recipe_file, section, words):
    path = recipe_file(section)
    found = message(path)
    assert found.startswith(f"{path}: ")
    assert all(word in found for word in words), found


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("losses: []", "losses: must hold something (found [])"),
        ("losses: ctc", "losses: must be a list (found 'ctc')"),
        ("losses: {kind: ctc}", "losses: must be a list (found {'kind': 'ctc'})"),
        ("losses: [ctc]", "losses.0: must be a section, a mapping of keys (found 'ctc')"),
        (
            "losses: [{weight: 1}]",
            "losses.0: key 'kind' is missing; it selects what the section is (found {'weight': 1})",
        ),
        ("losses: [{kind: ctc}, {kind: kl}]", "losses.1.kind: 'kl' is unknown; choose one of 'ctc', 'frame_kl', "),
        ("losses: [{kind: ctc, wieght: 2}]", "unknown key 'losses.ctc.wieght'; did you mean 'weight'?"),
        (
            "losses: [{kind: ctc, weight: -1}]",
            "losses.ctc.weight: Input should be greater than or equal to 0 (found -1)",
        ),
        ("losses: [{kind: ctc, ramp: 3}]", "losses.ctc.ramp: must be a section, a mapping of keys (found 3)"),
        (
            "losses: [{kind: ctc, ramp: {start: 0.5, end: 0.1}}]",
            "losses.ctc.ramp: start 0.5 comes after end 0.1",
        ),
        ("losses: [{kind: ctc, name: a b}]", "losses.ctc.name: String should match pattern"),
        ("losses: [{kind: inter_ctc, layers: []}]", "losses.inter_ctc.layers: must hold something (found [])"),
        ("losses: [{kind: inter_ctc, layers: 2}]", "losses.inter_ctc.layers: must be a list (found 2)"),
    ],
)
def test_a_mistake_in_a_loss_is_told_once(recipe_file, section, sentence):
    """What is wrong with an item says nothing about the list it stands in."""
    path = recipe_file(section)
    found = message(path)
    assert found.startswith(f"{path}: {sentence}")
    assert ";" not in found.removeprefix(f"{path}: {sentence}")


@pytest.mark.parametrize(
    ("distill", "sentence"),
    [
        ("{}", "distill: nobody teaches; name teachers, or language_models"),
        ("runs/teacher", "distill: must be a section, a mapping of keys (found 'runs/teacher')"),
        ("{teachers: []}", "distill: nobody teaches; name teachers, or language_models"),
        ("{teachers: [3]}", "distill.teachers.0: must be a path (found 3)"),
        ("{teachers: [a, b]}", "distill: combine.kind single is for one teacher, but there are 2; choose another kind"),
        (
            "{teachers: a, combine: {kind: switching}}",
            "distill: combine.kind switching needs two teachers or more",
        ),
        (
            "{teachers: [a, b], combine: {schedule: random}}",
            "distill.combine: key 'kind' is missing; it selects what the section is (found {'schedule': 'random'})",
        ),
        (
            "{teachers: [a, b], combine: {kind: switching, schedul: random}}",
            "unknown key 'distill.combine.schedul'; did you mean 'schedule'?",
        ),
        (
            "{teachers: [a, b], combine: {kind: switching, schedule: best}}",
            "distill.combine.schedule: Input should be 'random', 'round_robin' or 'accuracy' (found 'best')",
        ),
    ],
)
def test_a_mistake_in_distill_is_one_sentence(recipe_file, distill, sentence):
    path = recipe_file(TAUGHT, f"distill: {distill}")
    assert message(path) == f"{path}: {sentence}"


def test_an_unknown_way_to_combine_lists_the_known_ones(recipe_file):
    found = message(recipe_file(TAUGHT, "distill: {teachers: [a, b], combine: {kind: mix}}"))
    assert "distill.combine.kind: 'mix' is unknown; choose one of" in found
    assert all(f"'{kind}'" in found for kind in ("single", "switching", "multi_stream", "interpolation", "hybrid"))


def test_keys_of_the_format_before_are_named_with_where_they_went(recipe_file):
    path = recipe_file("distill: {teacher: runs/t, weight: 0.3, temperature: 2.0, delay_frames: 4}")
    found = message(path)
    assert "unknown key 'distill.teacher'; did you mean 'teachers'?" in found
    for key in ("weight", "temperature", "delay_frames"):
        assert f"unknown key 'distill.{key}'; did you mean 'losses.<kind>.{key}'?" in found


def test_a_key_of_another_section_is_found_there(recipe_file):
    assert "unknown key 'learning_rate'; did you mean 'train.learning_rate'?" in message(
        recipe_file("learning_rate: 0.1")
    )
    assert "unknown key 'train.encoder'; did you mean 'model.encoder'?" in message(recipe_file("train: {encoder: 1}"))


def test_several_mistakes_are_told_together(recipe_file):
    found = message(recipe_file("train: {stepps: 3, batch_size: 0}", "seed: -1"))
    assert all(word in found for word in ("train.stepps", "train.batch_size", "seed"))


def test_the_largest_lookahead_is_allowed(recipe_file):
    section = "model: {kind: separable_conv, depth: 2, kernel: 5, lookahead_frames: 8}"
    assert load_recipe(recipe_file(section)).model.lookahead_frames == 8


def test_overrides(recipe_file):
    path = recipe_file(TEACHER)
    recipe = load_recipe(path, ["train.steps=12", "model.encoder.depth=3", "augment.spec=null", "name=other"])
    assert (recipe.train.steps, recipe.train.learning_rate) == (12, 0.002)
    assert (recipe.model.encoder.depth, recipe.model.encoder.width) == (3, 8)
    assert recipe.augment.spec is None
    assert recipe.name == "other"
    assert load_recipe(path, ["distill=null", "losses=[{kind: ctc, weight: 2}]"]).losses[0].weight == 2
    last = load_recipe(path, ["augment.speed=[1.0]", "data.train=a=b.jsonl", "train.steps=1", "train.steps=2"])
    assert (last.augment.speed, str(last.data.train), last.train.steps) == ((1.0,), "a=b.jsonl", 2)
    assert load_recipe(path).train.steps == 7


def test_overrides_of_an_item_of_a_list(recipe_file):
    """By its name, or its kind where it has none; the others stay as they are."""
    path = recipe_file(
        "losses: [{kind: ctc, weight: 0.5}, {kind: frame_kl}, {kind: frame_kl, name: late, delay_frames: 4}]",
        "distill: {teachers: t}",
    )
    before = load_recipe(path)
    after = load_recipe(path, ["losses.frame_kl.weight=0.3", "losses.late.frames=nonblank", "losses.ctc.weight=2"])
    assert [loss.weight for loss in before.losses] == [0.5, 1.0, 1.0]
    assert [loss.weight for loss in after.losses] == [2.0, 0.3, 1.0]
    assert [loss.key for loss in after.losses] == ["ctc", "frame_kl", "late"]
    assert (after.losses[1].frames, after.losses[2].frames) == ("all", "nonblank")
    assert (after.losses[1].delay_frames, after.losses[2].delay_frames) == (0, 4)
    assert load_recipe(path, ["losses.late.kind=skd", "losses.late.delay_frames=1"]).losses[2].kind == "skd"
    assert load_recipe(path, ["distill.teachers=[u]", "losses.late.ramp.end=0.5"]).losses[2].ramp.end == 0.5


def test_one_path_will_do_for_one_teacher(recipe_file):
    one, same = (load_recipe(recipe_file(TAUGHT, f"distill: {{teachers: {t}}}")) for t in ("runs/t", "[runs/t]"))
    assert one == same
    assert [str(path) for path in one.distill.teachers] == ["runs/t"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.steps", ["--set 'train.steps'", "key.path=value"]),
        ("=3", ["--set '=3'", "key.path=value"]),
        ("train.speed=[1", ["--set", "not valid YAML"]),
        ("train.stepz=3", ["unknown key 'train.stepz'", "'steps'"]),
        ("train=3", ["train", "found 3"]),
        ("train.steps=fast", ["train.steps", "'fast'"]),
        ("losses.cct.weight=1", ["--set 'losses.cct.weight=1'", "'cct' is not one of the list's items", "(ctc, kl)"]),
        ("losses.frame_kl.weight=1", ["'frame_kl' is not one of the list's items (ctc, kl)"]),
        ("losses.ctc.wieght=1", ["unknown key 'losses.ctc.wieght'", "'weight'"]),
        ("distill.teachers.0=t", ["'0' is not one of the list's items (they have no names)"]),
    ],
)
def test_bad_overrides(recipe_file, override, words):
    losses = "losses: [{kind: ctc}, {kind: frame_kl, name: kl}]"
    found = message(recipe_file(losses, "distill: {teachers: [t]}"), override)
    assert all(word in found for word in words), found


def test_an_override_that_fits_two_items_of_a_list(recipe_file):
    path = recipe_file("losses: [{kind: cr_ctc}, {kind: cr_ctc}]")
    assert "'cr_ctc' is there more than once; give each a name" in message(path, "losses.cr_ctc.weight=1")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("schema: 1\n  name: [", ["line 2", "not valid YAML"]),
        ("- a\n- b\n", ["mapping", "schema: 1"]),
        ("", ["mapping", "schema: 1"]),
        ("key: !!python/object/apply:os.getcwd []", ["not valid YAML"]),
        ("{}", ["key 'schema' is missing", "key 'data' is missing", "key 'model' is missing"]),
    ],
)
def test_files_that_are_no_recipe(tmp_path, content, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    found = message(path)
    assert all(word in found for word in [str(path), *words]), found


def test_file_that_is_no_text(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00binary")
    assert "cannot be read as text" in message(tmp_path / "recipe.yaml")


def test_missing_file_lists_the_packaged_recipes(tmp_path):
    found = message(tmp_path / "nowhere.yaml")
    assert "recipe not found" in found
    assert all(name in found for name in packaged_recipes())


def test_a_resolved_recipe_reads_back_as_itself(recipe_file, tmp_path):
    losses = "losses: [{kind: ctc, ramp: {end: 0.5}}, {kind: frame_kl, temperature: 2.0, frames: symmetric, name: kl}]"
    one = "distill: {teachers: runs/teacher}"
    several = "distill: {teachers: [a, b], combine: {kind: interpolation, weights: [1, 2], average: log}}"
    noise = "augment: {noise: {manifest: noise.jsonl}, spec: null}"
    for sections in ([], [losses, one, noise], [TAUGHT, several], [TEACHER]):
        recipe = load_recipe(recipe_file(*sections))
        again = tmp_path / "resolved.yaml"
        again.write_text(recipe.dumps(), encoding="utf-8")
        assert load_recipe(again) == recipe
        assert load_recipe(again).dumps() == recipe.dumps()
        assert recipe.dumps().startswith("schema: 1\n")


def test_settings_cannot_be_changed_afterwards(recipe_file):
    recipe = load_recipe(recipe_file())
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.steps = 3
    assert recipe.train.steps == 7


def test_every_key_is_documented():
    """The attribute docstrings are the reference; editors read them from the schema."""
    schema = Recipe.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, value in section["properties"].items():
            # pydantic leaves out a description that is the section's own
            described = value.get("description") or schema["$defs"][value["$ref"].rpartition("/")[2]]["description"]
            assert described, f"{section['title']}.{key}"


def test_a_teacher_alone_brings_the_losses_that_suit_it(recipe_file):
    path = recipe_file("model: {kind: separable_conv}\ndistill: {teachers: t}")
    text, taught = load_recipe(path).losses
    assert (text.kind, taught.kind, taught.suit_teacher) == ("ctc", "frame_kl", True)
    assert text.weight + taught.weight == pytest.approx(1)
    assert [loss.weight for loss in load_recipe(path, ["distill=null"]).losses] == [1]
    assert "suit_teacher chooses the delay" in message(
        path, "losses=[{kind: frame_kl, suit_teacher: true, delay_frames: 2}]"
    )
