"""Short reviews, generated, and a transformer that says whether they praise: attention on words."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["LENGTH", "WORDS", "TextClassifier", "reviews", "spell"]

SUBJECTS = ["film", "plot", "music", "cast", "ending", "camera", "script", "humour"]
GOOD = ["good", "great", "lovely", "clever", "warm", "bright"]
BAD = ["bad", "awful", "dull", "clumsy", "cold", "weak"]
ADVERBS = ["very", "rather", "quite", "really"]
JOINS = ("and", "but", "although")  # both the same; the second counts; the first counts
PADDING, START = "[pad]", "[start]"
WORDS = (PADDING, START, "the", "was", "not", *JOINS, *ADVERBS, *SUBJECTS, *GOOD, *BAD)
LENGTH = 16  # tokens; the longest review has 14
TRAINING, TESTING = 3000, 500


class TextClassifier(nn.Module):
    """A transformer encoder over words; the state of the first token decides.

    Parameters
    ----------
    classes, width, heads, layers : int
    """

    def __init__(self, classes: int = 2, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), width)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        settings = {"dropout": 0.0, "activation": "gelu", "batch_first": True}
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, **settings)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores ``[batch, classes]`` of int64 tokens ``[batch, LENGTH]``."""
        padding = tokens == WORDS.index(PADDING)
        x = self.encoder(self.words(tokens) + self.places, src_key_padding_mask=padding)
        return self.head(x[:, 0])


def reviews() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Generate reviews such as *the plot was not bad although the cast was very dull*.

    Returns
    -------
    train_tokens, train_labels, test_tokens, test_labels : torch.Tensor
        Tokens int64 ``[3000 or 500, 16]``; label 1 for praise. No review is twice among them.
    """
    generator = torch.Generator().manual_seed(0)
    made: dict[tuple[str, ...], bool] = {}
    while len(made) < TRAINING + TESTING:
        words, praise = _review(generator)
        made[words] = praise
    tokens = torch.zeros(len(made), LENGTH, dtype=torch.int64)
    for row, words in zip(tokens, made, strict=True):
        row[: len(words)] = torch.tensor([WORDS.index(word) for word in words])
    labels = torch.tensor(list(made.values()), dtype=torch.int64)
    return tokens[:TRAINING], labels[:TRAINING], tokens[TRAINING:], labels[TRAINING:]


def spell(tokens: torch.Tensor) -> str:
    """Write the words of one review, int64 ``[LENGTH]``, without padding."""
    return " ".join(WORDS[token] for token in tokens.tolist() if WORDS[token] not in WORDS[:2])


def _review(generator: torch.Generator) -> tuple[tuple[str, ...], bool]:
    praise, join = _flip(generator), _pick(JOINS, generator)
    first = praise if join != "but" else not praise
    second = praise if join != "although" else not praise
    words = [START, *_clause(first, generator)]
    if _flip(generator) or first != second:
        words += [join, *_clause(second, generator)]
    return tuple(words), praise if len(words) > 8 else first


def _clause(praises: bool, generator: torch.Generator) -> list[str]:
    negated, stressed = _flip(generator), _flip(generator)
    adjectives = GOOD if praises != negated else BAD
    words = ["the", _pick(SUBJECTS, generator), "was", *["not"] * negated]
    stress = [_pick(ADVERBS, generator)] if stressed else []
    return [*words, *stress, _pick(adjectives, generator)]


def _flip(generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < 0.5)


def _pick(words: list[str] | tuple[str, ...], generator: torch.Generator) -> str:
    return words[int(torch.randint(len(words), (), generator=generator))]
