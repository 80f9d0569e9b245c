"""Whether the greedy continuation is the answer, compared with generating it."""

import numpy as np
import pytest

from taskdiv_assets.language_model.answers import judge
from taskdiv_assets.pools.lab import held_out_items

TASKS = ["copy", "first", "last", "max", "upper", "compare"]


def continuation(lm, prompt: str, new_tokens: int) -> list[int]:
    ids = lm.tokenizer(prompt, return_tensors="pt")["input_ids"]
    out = lm.model.generate(input_ids=ids, do_sample=False, max_new_tokens=new_tokens, pad_token_id=0)
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("with_end", [pytest.param(True, marks=pytest.mark.full), False])
def test_right_is_what_generation_says(miniature, with_end):
    items = held_out_items("validation", 1, TASKS)
    judged = judge(miniature, [i.prompt for i in items], [i.response for i in items], with_end=with_end)
    for item, is_right in zip(items, judged.is_right, strict=True):
        wanted = miniature.tokenizer(item.response)["input_ids"] + [miniature.tokenizer.eos_token_id] * with_end
        assert is_right == (continuation(miniature, item.prompt, len(wanted)) == wanted), item
    assert 0 < judged.is_right.mean() < 1  # both kinds are there


def test_the_models_own_continuation_is_right_and_likely(miniature):
    prompts = [item.prompt for item in held_out_items("validation", 1, ["copy", "max"])]
    own = [miniature.tokenizer.decode(continuation(miniature, prompt, 3)) for prompt in prompts]
    is_text = [bool(text.strip()) and "<" not in text for text in own]
    kept = [(p, t) for p, t, ok in zip(prompts, own, is_text, strict=True) if ok]
    judged = judge(miniature, [p for p, _ in kept], [t for _, t in kept], with_end=False)
    assert len(kept) > 5 and judged.is_right.all()
    wrong = judge(miniature, [p for p, _ in kept], ["qqq"] * len(kept), with_end=False)
    assert not wrong.is_right.any() and (wrong.probability < judged.probability).all()


def test_probability_is_the_mean_over_the_answers_tokens(miniature):
    import torch

    prompt, answer = "copy: abcd>", "abc"
    ids = miniature.tokenizer(prompt + answer)["input_ids"]
    with torch.inference_mode():
        probabilities = miniature.model(torch.tensor([ids])).logits[0].double().softmax(-1)
    own = [float(probabilities[i - 1, ids[i]]) for i in range(len(ids) - 3, len(ids))]
    judged = judge(miniature, [prompt, "max: 1234>"], [answer, "4"], with_end=False)
    assert judged.probability[0] == pytest.approx(np.mean(own), rel=1e-5)


def test_an_answer_without_a_token_is_neither_right_nor_likely(miniature, monkeypatch):
    class Deaf:
        """A tokenizer that drops unknown characters, as some do."""

        def __init__(self, inner):
            self.inner, self.eos_token, self.bos_token_id = inner, inner.eos_token, inner.bos_token_id

        def __call__(self, texts, verbose=False):
            return self.inner([text.replace("☃", "") for text in texts])

    judged = judge(miniature._replace(tokenizer=Deaf(miniature.tokenizer)), ["copy: abcd>"], ["☃"], with_end=False)
    assert not judged.is_right[0] and np.isnan(judged.probability[0])


def test_a_tokenizer_without_an_end_can_be_asked_for_the_answers_beginning_only(miniature):
    import copy

    tokenizer = copy.deepcopy(miniature.tokenizer)
    tokenizer.eos_token = None
    lm = miniature._replace(tokenizer=tokenizer)
    assert not np.isnan(judge(lm, ["copy: abcd>"], ["abcd"], with_end=False).probability[0])
    with pytest.raises(ValueError, match="has no end-of-sequence token"):
        judge(lm, ["copy: abcd>"], ["abcd"], with_end=True)


def test_no_items(miniature):
    judged = judge(miniature, [], [], with_end=True)
    assert len(judged.is_right) == len(judged.probability) == 0
