"""Language models as teachers: auxiliary heads in one unit, in two, in three, against label interpolation.

Students of one recipe from one start, at equal updates on the same batches; three seeds, the test set, greedy decoding
and beam search with a word n-gram whose weights were chosen on dev for every student. Parts:

- ``sentences``: read English (speechocean762) in 256 subwords; senones, phones and subwords; students begin as phone
  recognisers that were distilled from the aligner, so that none is still on CTC's first plateau
- ``an4``: names, spellings and numbers (CMU AN4) as cepstra in words; senones, phones and words; fresh weights

Usage: python benchmarks/bench_lm.py --sentences FOLDER --an4 FOLDER --text FILE... [--parts ...] [--seeds 1 2 3]

Neither corpora nor texts are part of the repository. No dev or test sentence may be in the texts. Interrupt it at will;
it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import yaml
from exit_codes import with_exit_code
from lm_parts import BASELINE, CAUSAL, KINDS, PARTS, Part, methods
from lm_scores import save, score_runs

from kdcompress.errors import DataNotFoundError
from kdcompress.files import write_text
from kdcompress.steps import Step, path_setting, run_steps, training_step

ALIGNER = ("model.encoder.width=144", "model.encoder.depth=8")


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Prepare, align, train language models and starts, store what they say, train students, score them."""
    args = parse(argv)
    for name in args.parts:
        job = Job(args, name, PARTS[name])
        for steps in (job.before_texts, job.texts, lambda job=job: [*job.starts(), *job.stores()], job.students):
            run_steps(without_finished(steps()), args.output / "logs", args.workers)
        runs = {method: [job.student(number, seed) for seed in args.seeds] for number, method in job.chosen()}
        folders = [folder for group in runs.values() for folder in group]
        score_runs(folders, job.data / "dev.jsonl", job.data / "test.jsonl", job.folder / "fusion.kdlm")
        note = (
            f"{name}: {args.updates or job.part.updates} updates of {args.batch_size} items, {len(args.seeds)} seeds, "
            "test set; mean ± standard deviation over seeds, paired 95 % intervals. Fused: beam search, word 3-gram."
        )
        print(save(args.save, name, runs, BASELINE, note))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=Path, default=Path("../shared/data/speechocean762"))
    parser.add_argument("--an4", type=Path, default=Path("../shared/data/an4_mfcc"))
    texts = Path("../shared/data/lm_text")
    default = [texts / "tatoeba_en.txt", texts / "speechocean762_train.txt"]
    parser.add_argument("--text", type=Path, nargs="+", default=default, help="texts for the models of sentences")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-lm"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/lm"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", help="only these, and labels only")
    parser.add_argument("--updates", type=int, help="of students, in the place of each part's own")
    parser.add_argument("--aligner-updates", type=int, help="the same for the model that aligns")
    parser.add_argument("--start-updates", type=int, default=1200)
    parser.add_argument("--text-updates", type=int, help="of language models, in the place of each kind's own")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    wanted = {"sentences": [args.sentences / "train.jsonl", *args.text], "an4": [args.an4 / "train.jsonl"]}
    for file in (file for part in args.parts for file in wanted[part]):
        if not file.is_file():
            message = f"{file}: not here; name the data with --sentences, --an4 and --text (see --help)"
            print(f"error: {DataNotFoundError(message)}", file=sys.stderr)
            raise SystemExit(1)
    return args


def without_finished(steps: list[Step]) -> list[Step]:
    """The steps whose folder is not finished, whatever the paths in its recipe; nobody waits for the others."""
    left = [step for step in steps if not (FINISHED.get(step.arguments[0]) and finished(step))]
    names = {step.name for step in left}
    return [replace(step, after=tuple(name for name in step.after if name in names)) for step in left]


FINISHED = {"train": "run.json", "distill": "run.json", "align": "alignment.jsonl", "label": "index.json"}
"""File that a command writes last, by the command."""


def finished(step: Step) -> bool:
    """Whether the folder that a step writes holds its last file."""
    folder = Path(step.arguments[step.arguments.index("-o") + 1])
    return (folder / FINISHED[step.arguments[0]]).is_file()


class Job:
    """The steps of one part."""

    def __init__(self, args: argparse.Namespace, name: str, part: Part) -> None:
        self.args, self.name, self.part = args, name, part
        self.folder: Path = args.output / name
        self.data: Path = self.folder / "data" if name == "sentences" else args.an4
        self.phones: Path = self.folder / "data-phones"
        self.lexicon: Path = args.sentences / "lexicon.txt" if name == "sentences" else args.an4 / "etc" / "an4.dic"
        self.texts_of_lm: list[Path] = args.text if name == "sentences" else [args.an4 / "train.jsonl"]
        found = methods(part)
        unknown = set(args.methods or ()) - set(found)
        if unknown:
            raise SystemExit(f"there is no method {sorted(unknown)[0]!r}; there are: {', '.join(found)}")
        self.methods = found

    def chosen(self) -> list[tuple[int, str]]:
        """Numbers and names of the methods that are trained."""
        wanted = self.args.methods
        return [(n, name) for n, name in enumerate(self.methods) if not wanted or name in {BASELINE, *wanted}]

    def models(self) -> list[str]:
        """Names of the language models that the chosen methods read."""
        return sorted({model for _, name in self.chosen() for model in self.methods[name].reads})

    def student(self, number: int, seed: int) -> Path:
        """Folder of a student."""
        return self.folder / "students" / f"{number:02d}-seed{seed}"

    def common(self, folder: Path) -> list[str]:
        """Manifests and batches: the same for aligner, starts and students."""
        settings = [path_setting(f"data.{split}", folder / f"{split}.jsonl") for split in ("train", "dev")]
        return [*settings, f"train.batch_size={self.args.batch_size}", "data.on_unusable=skip", "train.eval_every=500"]

    def before_texts(self) -> list[Step]:
        """Data, aligner, alignment, senones, and the n-grams for decoding."""
        made, steps = self.folder, []
        data: tuple[str, ...] = ()
        if self.name == "sentences" and not (self.data / "test.jsonl").is_file():
            steps.append(
                Step("words", ("prepare", "sentences", "-o", str(self.data), "--source", str(self.args.sentences)))
            )
            data = ("words",)
        for split in ("train", "dev"):
            if not (self.phones / f"{split}.jsonl").is_file():
                arguments = (str(self.data / f"{split}.jsonl"), "-o", str(self.phones / f"{split}.jsonl"))
                steps.append(
                    Step(f"phones {split}", ("prepare", "phones", *arguments, "--lexicon", str(self.lexicon)), data)
                )
        phones = tuple(step.name for step in steps)
        recipe = self.part.recipe.replace("labels", "conventional")
        settings = [*self.common(self.phones), *ALIGNER, "data.units=words"]
        settings.append(f"train.steps={self.args.aligner_updates or self.part.aligner_updates}")
        steps.append(training_step("train", recipe, made / "aligner", settings, after=phones, name="aligner"))
        arguments = (str(made / "aligner"), str(self.data / "train.jsonl"), "-o", str(made / "alignment"))
        skip = ("--lexicon", str(self.lexicon), "--on-unusable", "skip")
        steps.append(Step("align", ("align", *arguments, *skip), ("aligner",)))
        if self.part.senones:
            count = ("--count", str(self.part.senones), "--lexicon", str(self.lexicon), *self.part.reads)
            arguments = (str(self.data / "train.jsonl"), str(self.alignment), "-o", str(made / "senones.json"), *count)
            steps.append(Step("senones", ("senones", *arguments), ("align",), result=made / "senones.json"))
        fusion = made / "fusion.kdlm"
        order = ("-o", str(fusion), "--order", "3", "--fallback")
        texts = tuple(str(path) for path in self.texts_of_lm)
        steps.append(Step("fusion", ("lm", "estimate", *texts, *order), result=fusion))
        return steps

    @property
    def alignment(self) -> Path:
        """What ``kdcompress align`` writes."""
        return self.folder / "alignment" / "alignment.jsonl"

    def texts(self) -> list[Step]:
        """Language models, after the tokens that those of the student's own units need."""
        steps = []
        if self.part.own == "subwords":
            write_text(self.folder / "tokens.txt", self.tokens())
        for name in self.models():
            unit, _, direction = name.partition("-")
            kind = KINDS[direction or CAUSAL]
            recipe = self.folder / "recipes" / f"{name}.yaml"
            steps_of_it = self.args.text_updates or self.part.text_updates.get(kind, 1)
            tree = {
                "schema": 1,
                "name": f"lm-{name}",
                "text": {
                    "train": [str(path) for path in self.texts_of_lm],
                    "dev": str(self.data / "dev.jsonl"),
                    **self.units(unit),
                },
                "model": {"kind": kind},
                "train": {"steps": steps_of_it},
            }
            write_text(recipe, yaml.safe_dump(tree, sort_keys=False))
            run = self.folder / "lm" / name
            steps.append(
                Step(
                    f"lm {name}",
                    ("train", str(recipe), "-o", str(run)),
                    metrics=run / "metrics.jsonl",
                    updates=steps_of_it,
                )
            )
        return steps

    def units(self, unit: str) -> dict[str, object]:
        """The ``text`` section's keys for a unit."""
        more: dict[str, dict[str, object]] = {
            "subwords": {"tokens": str(self.folder / "tokens.txt")},
            "phones": {"lexicon": str(self.lexicon), "g2p": "lexicon"},
            "senones": {"senones": str(self.folder / "senones.json")},
        }
        return {"units": unit, **more.get(unit, {})}

    def tokens(self) -> str:
        """Token table of the students: subwords of the training texts, as they would learn them themselves."""
        from kdcompress.data.text import unit_vocabulary
        from kdcompress_runtime.manifest import read_manifest

        size = next(int(one.partition("=")[2]) for one in self.part.settings if one.startswith("data.subwords="))
        texts = (entry.text for entry in read_manifest(self.data / "train.jsonl"))
        return unit_vocabulary(texts, "subwords", size).dumps()

    def starts(self) -> list[Step]:
        """Students of phones, distilled from the aligner, that those of sentences begin as."""
        if self.name != "sentences":
            return []
        settings = [*self.common(self.phones), "data.units=words", f"train.steps={self.args.start_updates}"]
        settings.append(path_setting("distill.teachers", self.folder / "aligner"))
        recipe, steps = "sentences-from-conventional", []
        for seed in self.args.seeds:
            run, own = self.folder / f"start-seed{seed}", [*settings, f"seed={seed}"]
            steps.append(training_step("distill", recipe, run, own, after=(), name=f"start {seed}"))
        return steps

    def stores(self) -> list[Step]:
        """What each language model says of the training texts, stored once."""
        steps = []
        for name in self.models():
            settings = [*self.common(self.data), *self.part.settings]
            settings.append(f"label={json.dumps({'kind': 'units', 'top_k': 16, 'states': name.endswith('masked')})}")
            words = tuple(word for setting in settings for word in ("--set", setting))
            arguments = ("-o", str(self.folder / "stores" / name), "--teacher", str(self.folder / "lm" / name))
            steps.append(Step(f"store {name}", ("label", self.part.recipe, *arguments, *words)))
        return steps

    def students(self) -> list[Step]:
        """One sweep for each seed: all methods train side by side."""
        steps = []
        for seed in self.args.seeds:
            variants = {self.student(number, seed).name: self.variant(name, seed) for number, name in self.chosen()}
            file = self.folder / "sweeps" / f"seed{seed}.yaml"
            write_text(file, yaml.safe_dump({"recipe": self.part.recipe, "variants": variants}))
            steps.append(Step(f"seed {seed}", ("sweep", str(file), "-o", str(self.folder / "students"))))
        return steps

    def variant(self, name: str, seed: int) -> list[str]:
        """Overrides of one student."""
        method = self.methods[name]
        settings = [*self.common(self.data), *self.part.settings, f"seed={seed}"]
        settings += [f"train.steps={self.args.updates or self.part.updates}", f"losses={json.dumps(method.losses)}"]
        if self.name == "sentences":
            settings.append(path_setting("init_encoder", self.folder / f"start-seed{seed}"))
        if method.reads:
            models = {model: str(self.folder / "stores" / model) for model in method.reads}
            distill = {"language_models": models, "alignment": str(self.alignment)}
            settings.append(f"distill={json.dumps(distill)}")
        return settings


if __name__ == "__main__":
    sys.exit(main())
