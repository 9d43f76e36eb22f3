"""Class names as prompts: which tokens are which class, and what does not fit into one prompt."""

import pytest
import torch

from castkd.errors import ConfigError
from castkd.teachers.prompts import PromptMaker


class Letters:
    """A tokenizer with one token per letter."""

    cls_token_id, sep_token_id = 1, 2

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return [ord(letter) for letter in text]


DOT = ord('.')


def test_names_are_joined_by_dots():
    (prompt,) = PromptMaker(Letters(), ('ab', 'C_d')).whole
    assert prompt.tokens == (1, ord('a'), ord('b'), DOT, *map(ord, 'c d'), DOT, 2)
    assert prompt.spans == ((0, 1, 3), (1, 4, 7))


def test_a_class_has_the_mean_of_its_tokens_and_the_best_of_its_phrases():
    (prompt,) = PromptMaker(Letters(), ('ab', 'x'), {'x': ['y', 'zz']}).whole
    assert prompt.spans == ((0, 1, 3), (1, 4, 5), (1, 6, 8))
    probabilities = torch.tensor([[[0.9, 0.2, 0.4, 0.9, 0.1, 0.9, 0.5, 0.7, 0.9, 0.9]]])
    scores = prompt.class_scores(probabilities, 3)
    torch.testing.assert_close(scores, torch.tensor([[[0.3, 0.6, 0.0]]]))


def test_long_lists_are_tiled_with_every_class_in_one_prompt():
    maker = PromptMaker(Letters(), ('aa', 'bb', 'cc', 'dd'), {'bb': ['b', 'bbb']}, max_tokens=9)
    found = [[index for index, *_ in prompt.spans] for prompt in maker.whole]
    assert found == [[0], [1, 1], [2, 3]]
    assert max(len(prompt.tokens) for prompt in maker.whole) <= 9


def test_a_prompt_to_train_with_names_the_classes_that_are_there():
    names = tuple('abcdefghij')
    maker = PromptMaker(Letters(), names, {'a': ['x', 'y']}, max_tokens=9)
    drawn = set()
    for _ in range(50):
        prompt = maker.sampled([7, 2])
        classes = [index for index, *_ in prompt.spans]
        assert len(prompt.tokens) <= 9
        assert {2, 7} <= set(classes)
        assert classes == sorted(set(classes))
        drawn.update(classes)
    assert drawn == set(range(10))
    # Where everything fits, nothing is drawn, and a class has its first phrase alone.
    assert PromptMaker(Letters(), names, {'a': ['x', 'y']}).sampled([3]).spans[:2] == (
        (0, 1, 2),
        (1, 3, 4),
    )


def test_token_maps_are_those_of_the_spans():
    (prompt,) = PromptMaker(Letters(), ('ab', 'c')).whole
    expected = [[0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0], [0] * 7]
    assert prompt.token_maps(3, 7).tolist() == expected


@pytest.mark.parametrize(
    ('classes', 'synonyms', 'message'),
    [
        (('ab',), {'abc': ['x']}, "synonyms names 'abc', which is no class; did you mean 'ab'"),
        (('ab',), {'ab': 'x'}, r"synonyms\['ab'\] must be a list of phrases"),
        (('ab',), {'ab': []}, r"synonyms\['ab'\] must be a list of phrases"),
        (('',), None, "the phrase '' has 0 tokens"),
        (('a' * 20,), None, 'has 20 tokens; it needs 1 to 13'),
        (('a.b',), None, 'has a dot'),
    ],
)
def test_wrong_names_are_one_line(classes, synonyms, message):
    with pytest.raises(ConfigError, match=message) as caught:
        PromptMaker(Letters(), classes, synonyms, max_tokens=16)
    assert '\n' not in str(caught.value)
