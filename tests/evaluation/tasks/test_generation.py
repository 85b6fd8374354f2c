"""The search of an autoregressive decoder finds what transformers' own finds, and what trying every text finds."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kdcompress_evaluation.systems.generation import Settings, beam, greedy

if TYPE_CHECKING:
    from numpy.typing import NDArray

END = 1


class Table:
    """A decoder whose next token hangs on the two before it; it remembers rows, as a cache does."""

    def __init__(self, size: int, seed: int) -> None:
        self.scores = np.random.default_rng(seed).normal(size=(size, size, size)).astype(np.float32) * 2
        self.rows: list[list[int]] = [[]]

    def step(self, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        self.rows = [[*self.rows[p], int(t)] for t, p in zip(tokens, parents, strict=True)]
        return np.stack([self.scores[row[-2] if len(row) > 1 else 0, row[-1]] for row in self.rows])

    def log_prob(self, text: tuple[int, ...]) -> float:
        """Of a whole text that begins with token 0."""
        total, row = 0.0, [0]
        for token in text:
            logits = self.scores[row[-2] if len(row) > 1 else 0, row[-1]].astype(float)
            total += float(logits[token] - np.log(np.exp(logits).sum()))
            row.append(token)
        return total


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_best_of_all_texts(seed: int) -> None:
    size, longest = 4, 4
    settings = Settings(start=0, end=(END,), forced_end=END)
    found = beam(Table(size, seed), settings, longest, 64)
    others = [token for token in range(size) if token != END]
    table = Table(size, seed)
    best = max(
        (
            (table.log_prob((*text, END)) if len(text) < longest - 1 else table.log_prob(text)) / (len(text) + 1)
            for count in range(longest)
            for text in product(others, repeat=count)
        ),
    )
    # In the last place the end is forced, and costs nothing.
    assert found.log_prob / (len(found.tokens) + 1) == pytest.approx(best, abs=1e-9)


def test_greedy_is_the_beam_of_one_until_the_end() -> None:
    for seed in range(8):
        settings = Settings(start=0, end=(END,))
        plain, narrow = greedy(Table(6, seed), settings, 12), beam(Table(6, seed), settings, 12, 1)
        assert plain.tokens == narrow.tokens
        assert plain.log_prob == pytest.approx(narrow.log_prob)


def test_what_is_forbidden_never_comes_and_the_limit_holds() -> None:
    for search in (greedy, lambda *given: beam(*given, 3)):
        found = search(Table(5, 3), Settings(start=0, end=(END,), forbidden=(0, 2)), 7)
        assert not {0, 2} & set(found.tokens)
        endless = search(Table(5, 3), Settings(start=0, end=(END,), forbidden=(END,)), 7)
        assert len(endless.tokens) == 7


def test_as_transformers_does_it() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.MarianConfig(
        vocab_size=23, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=32, pad_token_id=0,
        eos_token_id=1, forced_eos_token_id=1, decoder_start_token_id=0, init_std=0.6,
    )  # fmt: skip
    model = transformers.MarianMTModel(config).eval()

    class Model:
        def __init__(self, source: Any) -> None:
            self.source, self.rows = source, torch.zeros((1, 0), dtype=torch.long)

        def step(self, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
            self.rows = torch.cat([self.rows[torch.from_numpy(parents)], torch.from_numpy(tokens)[:, None]], dim=1)
            with torch.no_grad():
                found = model(input_ids=self.source.expand(len(self.rows), -1), decoder_input_ids=self.rows)
            return found.logits[:, -1].numpy()

    settings = Settings(start=0, end=(1,), forced_end=1)
    for number in range(6):
        source = torch.randint(2, 23, (1, 4 + number))
        for beams in (1, 4):
            theirs = model.generate(input_ids=source, num_beams=beams, max_new_tokens=12)[0].tolist()[1:]
            decoder = Model(source)
            ours = greedy(decoder, settings, 12) if beams == 1 else beam(decoder, settings, 12, beams)
            assert ours.tokens == [token for token in theirs if token > 1], (number, beams)
