"""Prompts of open-vocabulary detectors: class names as tokens, and which tokens are which class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from castkd.errors import ConfigError, near_names


@dataclass(frozen=True)
class Prompt:
    """One text that the detector reads.

    Attributes:
        tokens: Indices of its tokens, first and last mark included.
        spans: Per phrase its class and the first and one past the last of its tokens.
    """

    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]

    def class_scores(self, probabilities: Tensor, num_classes: int) -> Tensor:
        """Return class scores (B, Q, C) from probabilities of tokens (B, Q, T).

        A phrase has the mean of its tokens, as in mmdet's Grounding DINO, a class the best of its phrases, and 0 when
        the prompt does not name it.
        """
        scores = probabilities.new_zeros((*probabilities.shape[:-1], num_classes))
        for index, start, stop in self.spans:
            found = probabilities[..., start:stop].mean(dim=-1)
            scores[..., index] = torch.maximum(scores[..., index], found)
        return scores

    def token_maps(self, num_classes: int, length: int) -> Tensor:
        """Return the tokens (C, length) of every class as zeros and ones."""
        maps = torch.zeros(num_classes, length)
        for index, start, stop in self.spans:
            maps[index, start:stop] = 1
        return maps


class PromptMaker:
    """Makes prompts, names joined by " . ", out of class names.

    Args:
        tokenizer: A BERT tokenizer of the transformers library.
        classes: Class names. Underscores are read as spaces, capitals as small letters.
        synonyms: Per class name the phrases that stand for it, where that is not the name itself.
        max_tokens: Tokens of a prompt, at most.

    Raises:
        ConfigError: When a synonym is for no class, or a phrase is empty or too long.
    """

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401 - the library's tokenizers
        classes: Sequence[str],
        synonyms: Mapping[str, Sequence[str]] | None = None,
        max_tokens: int = 256,
    ) -> None:
        synonyms = dict(synonyms or {})
        for name, phrases in synonyms.items():
            if name not in classes:
                raise ConfigError(
                    f'prompts: synonyms names {name!r}, which is no class; {near_names(name, classes)}'
                )
            if isinstance(phrases, str) or not phrases:
                raise ConfigError(
                    f'prompts: synonyms[{name!r}] must be a list of phrases, got {phrases!r}'
                )
        self.max_tokens = max_tokens
        self._first = tokenizer.cls_token_id
        self._last = tokenizer.sep_token_id
        (self._dot,) = tokenizer.encode('.', add_special_tokens=False)
        self._phrases = [
            [self._tokens(tokenizer, phrase) for phrase in synonyms.get(name, [name])]
            for name in classes
        ]
        self.whole = self.prompts(range(len(classes)))

    def _tokens(self, tokenizer: Any, phrase: str) -> tuple[int, ...]:  # noqa: ANN401
        text = phrase.replace('_', ' ').strip().lower()
        tokens = tuple(tokenizer.encode(text, add_special_tokens=False))
        if not tokens or len(tokens) + 3 > self.max_tokens:
            raise ConfigError(
                f'prompts: the phrase {phrase!r} has {len(tokens)} tokens; it needs 1 to {self.max_tokens - 3}'
            )
        if self._dot in tokens:
            raise ConfigError(f'prompts: the phrase {phrase!r} has a dot, which ends a phrase')
        return tokens

    def prompts(self, classes: Sequence[int]) -> list[Prompt]:
        """Return prompts that name these classes with all their phrases, in order, as few as hold them."""
        made, items = [], []
        for index in classes:
            own = [(index, tokens) for tokens in self._phrases[index]]
            # The phrases of a class stay together, so that one box has one score for it, unless they fill a prompt.
            if items and self._length(items + own) > self.max_tokens:
                made.append(self._join(items))
                items = []
            for item in own:
                if self._length([*items, item]) > self.max_tokens:
                    made.append(self._join(items))
                    items = []
                items.append(item)
        return [*made, self._join(items)]

    def sampled(self, present: Sequence[int]) -> Prompt:
        """Return one prompt to train with, which names a class by its first phrase.

        It names all classes if they fit. Otherwise the ``present`` ones come first, then others at random.
        """
        classes = range(len(self._phrases))
        items = [(index, self._phrases[index][0]) for index in classes]
        if self._length(items) > self.max_tokens:
            others = torch.randperm(len(items)).tolist()
            named = set(present)
            order = [*present, *(index for index in others if index not in named)]
            chosen: list[tuple[int, tuple[int, ...]]] = []
            for index in order:
                if self._length([*chosen, items[index]]) <= self.max_tokens:
                    chosen.append(items[index])
            items = sorted(chosen)
        return self._join(items)

    @staticmethod
    def _length(items: Sequence[tuple[int, tuple[int, ...]]]) -> int:
        """Count tokens: each phrase ends with a dot, the prompt has a mark at either end."""
        return 2 + sum(len(tokens) + 1 for _, tokens in items)

    def _join(self, items: Sequence[tuple[int, tuple[int, ...]]]) -> Prompt:
        tokens, spans = [self._first], []
        for index, phrase in items:
            spans.append((index, len(tokens), len(tokens) + len(phrase)))
            tokens += [*phrase, self._dot]
        return Prompt((*tokens, self._last), tuple(spans))
