"""One of our own training runs as a teacher."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from kdcompress.data.text import Encoder
from kdcompress.errors import MismatchError
from kdcompress.files import file_sha256
from kdcompress.hearing import masked_views
from kdcompress.model_settings import StudentConfig
from kdcompress.start import differences
from kdcompress.teachers.teacher import Said, Teacher, TeacherInfo

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.hearing import Heard
    from kdcompress.recipe import Recipe
    from kdcompress.run import TrainedRun


class RunTeacher(Teacher):
    """A finished run. It sees the student's masks wherever its features come as often as the student's."""

    def __init__(self, run: TrainedRun) -> None:
        self.run, self.network = run, run.network
        recipe = run.recipe
        self.frontend = recipe.frontend
        shift = recipe.frontend.exact_shift()
        frame = shift * self.network.subsampling_factor
        streams = isinstance(recipe.model, StudentConfig)
        self.info = TeacherInfo(
            source=run.folder.path,
            name=recipe.name,
            kind=recipe.model.kind,
            fingerprint=_fingerprint(run),
            vocabulary=run.vocabulary,
            units=recipe.data.units,
            frame=frame,
            sample_rate=recipe.frontend.sample_rate,
            gives=frozenset({"log_probs", "hidden"}),
            sees_labels=recipe.model.sees_labels,
            lookahead=frame * self.network.lookahead_frames if streams else None,
            hidden_dims=self.network.hidden_dims,
            dev_error=run.summary.get("dev", {}).get("wer"),
        )
        self._encode = Encoder(run.vocabulary, recipe.data.units)

    def to(self, device: torch.device) -> None:
        """See ``Teacher.to``."""
        self.network.to(device)

    def check(self, recipe: Recipe) -> None:
        """See ``Teacher.check``.

        Raises:
            MismatchError: this teacher is of another task, or of other inputs than recordings, which are resampled.
        """
        own = self.run.recipe
        if own.task != recipe.task:
            raise MismatchError(
                f"{self.info.source}: is of task {own.task}, and the recipe of task {recipe.task}; name another teacher"
            )
        if own.frontend.sample_rate is None and own.frontend != recipe.frontend:
            found = "; ".join(differences("frontend", recipe.frontend, own.frontend))
            raise MismatchError(f"{self.info.source}: is given other inputs: {found}. Use the same frontend")

    @torch.no_grad()
    def answer(self, heard: Heard, items: Tensor | None = None) -> Said:
        """See ``Teacher.answer``.

        The student's features reach further than the input, by its look-ahead; the teacher sees no more of that than
        it looks ahead itself. One that looks further (a guide, whose learner has the whole input) gets its own.
        """
        network, own, recipe = self.network, self.run.recipe.frontend, heard.recipe
        batch = heard.at_rate(own.sample_rate)
        lens = network.frame_lens(batch.input_lens).repeat(heard.views)
        reach = (int(lens.max()) + network.lookahead_frames) * network.subsampling_factor
        if own == recipe.frontend and heard.features.shape[1] >= reach:
            features = heard.features[:, :reach]
        else:
            features = network.features(batch.inputs)
            # masks are counted in features: those of another length would hide other moments
            if own.exact_shift() == recipe.frontend.exact_shift():
                features = masked_views(features, network, batch, recipe, heard.views)[:, :reach]
            else:
                features = features.repeat(heard.views, 1, 1)[:, :reach]
        labels, label_lens = self._reference(heard)
        if items is not None:
            features, lens, labels, label_lens = features[items], lens[items], labels[items], label_lens[items]
        said = network.outputs(features, lens, labels, label_lens)
        frames = int(lens.max())
        return Said(lens, said.log_probs[:, :frames].float(), tuple(block[:, :frames] for block in said.hidden))

    def _reference(self, heard: Heard) -> tuple[Tensor, Tensor]:
        """Labels in this teacher's tokens, if it looks at them."""
        if not self.info.sees_labels:
            return heard.labels, heard.label_lens
        encoded = [torch.tensor(self._encode(text), dtype=torch.int64) for text in heard.batch.texts]
        lens = torch.tensor([len(labels) for labels in encoded])
        labels = torch.nn.utils.rnn.pad_sequence([*encoded, torch.zeros(1, dtype=torch.int64)], batch_first=True)[:-1]
        device = heard.labels.device
        return labels.to(device).repeat(heard.views, 1), lens.to(device).repeat(heard.views)


def _fingerprint(run: TrainedRun) -> str:
    """SHA-256 over weights, frontend, model and tokens."""
    settings = run.recipe.model_dump_json(include={"frontend", "model"})
    parts = (file_sha256(run.folder.weights), settings, run.vocabulary.dumps())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
