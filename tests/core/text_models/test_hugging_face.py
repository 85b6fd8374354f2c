"""Hugging Face folders: tiny random GPT-2 and BERT, their own tokens or ours; nothing is fetched, nothing is run."""

from __future__ import annotations

import json

import pytest
import torch

from kdcompress.errors import TextModelError, VocabularyError
from kdcompress.text_models.hf_units import HuggingFaceInventory, token_of
from kdcompress.text_models.opening import open_text_model
from kdcompress.units.characters import CharacterInventory
from kdcompress.units.subwords import SubwordInventory

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEXTS = ["the cat sat on the mat", "a cat", "don't sit on the cat"]


def gpt2(folder):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    config = transformers.GPT2Config(
        vocab_size=len(fast), n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def bert(folder):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "s", "##at", "##it", "on", "m", "a", "don"]
    words += ["'", "t", "c", "##a", "##t"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    fast = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        "gpt2": gpt2(tmp_path_factory.mktemp("gpt2")),
        "bert": bert(tmp_path_factory.mktemp("bert")),
    }


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_own_tokens_of_the_texts_are_the_units(folders, name):
    model = open_text_model(folders[name], texts=TEXTS)
    assert (model.kind, model.reads_both_ways, model.state_dim) == ("hugging_face", name == "bert", 16)
    ids = [model.inventory.spell(text) for text in TEXTS]
    for text, spelled, scores in zip(TEXTS, ids, model.score([one.ids for one in ids]), strict=True):
        assert set(spelled.words) == set(range(len(text.split())))
        assert list(spelled.words) == sorted(spelled.words)
        assert scores.log_probs.shape == (len(spelled.ids), len(model.inventory.symbols))
        assert torch.allclose(scores.log_probs.exp().sum(1), torch.ones(len(spelled.ids)), atol=1e-5)
        assert scores.states.shape == (len(spelled.ids), 16)
    assert 0 < model.dropped < 1
    assert "is dropped" in model.report
    assert len(open_text_model(folders[name]).inventory.symbols) > len(model.inventory.symbols)
    again = HuggingFaceInventory.from_json(json.loads(json.dumps(model.inventory.to_json())))
    assert again.spell(TEXTS[0]) == ids[0]


def test_a_causal_model_says_what_transformers_says(folders):
    model = open_text_model(folders["gpt2"], texts=TEXTS)
    raw = transformers.GPT2LMHeadModel.from_pretrained(folders["gpt2"]).eval()
    spelled = model.inventory.spell(TEXTS[0])
    tokens = [model.inventory.token_ids[unit] for unit in spelled.ids]
    with torch.no_grad():
        answer = raw(torch.tensor([[0, *tokens]]), output_hidden_states=True)
    wanted = answer.logits[0, :-1][:, list(model.inventory.token_ids)].log_softmax(1)
    # beside a longer text, whose padding must not be heard
    found = model.score([model.inventory.spell(TEXTS[2]).ids, spelled.ids])[1]
    assert torch.allclose(found.log_probs, wanted, atol=1e-5)
    assert torch.allclose(found.states, answer.hidden_states[-1][0, :-1], atol=1e-5)


def test_a_masked_model_says_what_transformers_says(folders):
    model = open_text_model(folders["bert"], texts=TEXTS)
    raw = transformers.BertForMaskedLM.from_pretrained(folders["bert"]).eval()
    spelled = model.inventory.spell(TEXTS[0])
    tokens = [2, *(model.inventory.token_ids[unit] for unit in spelled.ids), 3]
    found = model.score([model.inventory.spell(TEXTS[2]).ids, spelled.ids])[1]
    for place in range(len(spelled.ids)):
        hidden = list(tokens)
        hidden[place + 1] = 4
        with torch.no_grad():
            logits = raw(torch.tensor([hidden])).logits[0, place + 1]
        wanted = logits[list(model.inventory.token_ids)].log_softmax(0)
        assert torch.allclose(found.log_probs[place], wanted, atol=1e-5)
    with torch.no_grad():
        states = raw(torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][0, 1:-1]
    assert torch.allclose(found.states, states, atol=1e-5)


def test_our_units_are_kept_where_each_is_one_token(folders):
    ours = SubwordInventory(["▁", *"catonhes", "▁the", "▁cat"])
    model = open_text_model(folders["gpt2"], ours)
    assert model.inventory is ours
    raw = transformers.GPT2LMHeadModel.from_pretrained(folders["gpt2"]).eval()
    vocabulary = transformers.AutoTokenizer.from_pretrained(folders["gpt2"]).get_vocab()
    mapped = [vocabulary[symbol.replace("▁", "Ġ")] for symbol in ours.symbols]
    ids = ours.spell("the cat").ids
    with torch.no_grad():
        logits = raw(torch.tensor([[0, *(mapped[unit] for unit in ids)]])).logits[0, :-1]
    assert torch.allclose(model.score([ids])[0].log_probs, logits[:, mapped].log_softmax(1), atol=1e-5)


def test_units_in_every_style():
    assert token_of("▁the", {"Ġthe": 3}) == 3
    assert token_of("é", {"Ġthe": 3, "Ã©": 5}) == 5
    assert token_of("▁the", {"the": 1, "##ing": 2}) == 1
    assert token_of("ing", {"the": 1, "##ing": 2}) == 2
    assert token_of("▁", {"the": 1, "##ing": 2}) is None
    assert token_of("▁the", {"▁the": 1, "ing": 2}) == 1
    assert token_of("ing", {"▁the": 1, "ing": 2}) == 2
    assert token_of("▁AH", {"AH": 7, "B": 8}) == 7


def test_other_units_get_its_own_tokens_or_a_sentence(folders):
    ours = CharacterInventory("▁zq")
    with pytest.raises(TextModelError, match=r"another vocabulary: .* are no tokens of it .*'z'"):
        open_text_model(folders["bert"], ours)
    assert open_text_model(folders["bert"], ours, TEXTS).inventory.kind == "hugging_face"
    with pytest.raises(TextModelError, match=r"another vocabulary: it cannot write 'hund'"):
        open_text_model(folders["bert"], ours, ["the hund"])
    model = open_text_model(folders["gpt2"], texts=["a cat"])
    with pytest.raises(VocabularyError, match="does not cover the text"):
        model.inventory.spell("the mat")


def test_long_texts_and_bad_folders(folders, tmp_path):
    model = open_text_model(folders["gpt2"], texts=TEXTS)
    with pytest.raises(TextModelError, match="longer than the 32"):
        model.score([[0] * 40])
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folders["gpt2"] / name).read_bytes())
    with pytest.raises(TextModelError, match="tokenizer cannot be loaded"):
        open_text_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(TextModelError, match="never run here"):
        open_text_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["Wav2Vec2ForCTC"]}))
    with pytest.raises(TextModelError, match="no language model"):
        open_text_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(TextModelError, match="pickle can run code"):
        open_text_model(tmp_path)


def test_weights_that_are_no_numbers(tmp_path):
    folder = gpt2(tmp_path)
    model = transformers.GPT2LMHeadModel.from_pretrained(folder)
    model.transformer.h[0].mlp.c_fc.weight.data[0, 0] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(TextModelError, match="NaN or infinity"):
        open_text_model(folder)
