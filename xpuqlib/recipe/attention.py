"""Attention as linear modules, exactly: what the quantizer finds, and nn.MultiheadAttention is not.

``nn.MultiheadAttention`` calls its linear layers as functions, with weights of its own, and the XPU
quantizer looks for modules.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from types import FunctionType

import torch
import torch.nn.functional as F
from torch import nn

from xpuqlib.errors import ModelError
from xpuqlib.recipe.layers import refuse_unknown

__all__ = ["QuantizableAttention", "attends", "rewrite_attention"]

KEEP = "Or keep it in floating point, not rewritten: in lesson 09 -p rewritten_attention=false."


class QuantizableAttention(nn.Module):
    """Compute what ``nn.MultiheadAttention`` does, by linear modules and the same arguments.

    Self-attention has the linear modules ``in_proj`` (query, key and value in one) and
    ``out_proj``; cross-attention ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj``. Outputs
    agree to rounding. As there, masks are bool (True is left out) or float (added).

    Parameters
    ----------
    attention : torch.nn.MultiheadAttention
        Its parameters are used, not copied.
    cross : bool
        Project query, key and value by a module each. Needed where they are not one tensor; with
        ``kdim`` or ``vdim`` it is done anyway.
    name : str
        Where it stands in the model, for errors.
    """

    def __init__(
        self, attention: nn.MultiheadAttention, *, cross: bool = False, name: str = ""
    ) -> None:
        super().__init__()
        self.name, self.num_heads, self.dropout = name, attention.num_heads, attention.dropout
        self.batch_first, self.add_zero_attn = attention.batch_first, attention.add_zero_attn
        self.in_proj_bias = None  # nn.TransformerEncoderLayer reads it: None is no fast path
        self.packed = attention._qkv_same_embed_dim and not cross
        if self.packed:
            self.in_proj = _linear(attention.in_proj_weight, attention.in_proj_bias)
        else:
            self.q_proj, self.k_proj, self.v_proj = _separate(attention)
        self.out_proj = _linear(attention.out_proj.weight, attention.out_proj.bias)
        self.bias_k, self.bias_v = attention.bias_k, attention.bias_v
        self.train(attention.training)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend; arguments, shapes and results are those of ``nn.MultiheadAttention``.

        Raises
        ------
        ModelError
            If key or value are another tensor than the query, and it was not rewritten for
            cross-attention; for `is_causal` without a mask, and for nested tensors.
        """
        self._check(query, key, value, attn_mask, is_causal)
        batched = query.dim() == 3
        q, k, v = (self._batch_first(x, batched) for x in self._project(query, key, value))
        mask = self._mask(q, k.shape[1], attn_mask, key_padding_mask)
        if is_causal and key_padding_mask is None and not need_weights:
            mask = None  # the mask is causal, as the caller says: no need to read it
        else:
            is_causal = False
        q, k, v = (self._heads(x) for x in (q, *self._more_keys(k, v)))
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            output, weights = _attend(q, k, v, mask, dropout)
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            output = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
            weights = None
        output = self.out_proj(output.transpose(1, 2).flatten(2))
        if not batched:
            return output.squeeze(0), weights
        return output if self.batch_first else output.transpose(0, 1), weights

    def _check(self, query, key, value, attn_mask, is_causal) -> None:
        if self.packed and not (query is key and key is value):
            cause = f"{self.name or 'The attention'} gets a key or value other than its query."
            fix = f"rewrite_attention(model, cross=[{self.name!r}]), for cross-attention. {KEEP}"
            raise ModelError(cause, fix)
        if is_causal and attn_mask is None:
            cause = "is_causal says that attn_mask is causal, and there is no attn_mask."
            fix = "Pass nn.Transformer.generate_square_subsequent_mask(length) as attn_mask."
            raise ModelError(cause, fix)
        if query.is_nested:
            fix = "Pad the batch: torch.nested.to_padded_tensor, and a key_padding_mask."
            raise ModelError("Nested tensors are for PyTorch's fast path only.", fix)

    def _project(self, query, key, value) -> Iterable[torch.Tensor]:
        if self.packed:
            return self.in_proj(query).chunk(3, -1)
        return self.q_proj(query), self.k_proj(key), self.v_proj(value)

    def _batch_first(self, x: torch.Tensor, batched: bool) -> torch.Tensor:
        if not batched:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _mask(self, q, length, attn_mask, key_padding_mask) -> torch.Tensor | None:
        """Both masks in one of floats that broadcasts to ``[batch, heads, queries, keys]``."""
        masks = []
        if attn_mask is not None:
            attn_mask = _added(attn_mask, q)
            shape = (len(q), self.num_heads, q.shape[1], length)
            masks.append(attn_mask.view(shape) if attn_mask.dim() == 3 else attn_mask)
        if key_padding_mask is not None:
            masks.append(_added(key_padding_mask, q).view(len(q), 1, 1, length))
        if not masks:
            return None
        mask = sum(masks[1:], masks[0])
        more = (self.bias_k is not None) + self.add_zero_attn
        return F.pad(mask, (0, more)) if more else mask

    def _more_keys(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.bias_k is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), -1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(len(v), -1, -1)], 1)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        return k, v

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def attends(model: nn.Module) -> bool:
    """Whether a model has what `rewrite_attention` rewrites."""
    kinds = (nn.MultiheadAttention, *_OPENED)
    return any(isinstance(module, kinds) for module in model.modules())


def rewrite_attention(model: nn.Module, cross: Iterable[str] = ()) -> nn.Module:
    """Copy a model, and replace every ``nn.MultiheadAttention`` by linear modules, exactly.

    ``nn.Transformer`` and its parts are kept, but PyTorch's fast path for whole encoder layers,
    and with it nested tensors, is off for them: rows that are padding may then hold other values,
    which nobody may read anyway.

    Parameters
    ----------
    model : torch.nn.Module
        Not changed.
    cross : iterable of str
        Paths of those that attend to another tensor than their query, such as
        ``decoder.layers.0.multihead_attn``.

    Returns
    -------
    torch.nn.Module
        The copy, or a `QuantizableAttention` if the model itself is one; the model where there is
        nothing to rewrite.

    Raises
    ------
    ModelError
        For a subclass of ``nn.MultiheadAttention``, or one with hooks or of parts that were
        exchanged: what those compute is not known here.
    RecipeError
        For a path that is not in the model.
    """
    cross = [cross] if isinstance(cross, str) else list(cross)
    if not cross and not attends(model):
        return model
    model = copy.deepcopy(model)
    places = dict(model.named_modules(remove_duplicate=False))
    found = {path: m for path, m in places.items() if isinstance(m, nn.MultiheadAttention)}
    refuse_unknown(cross, list(found), what="nn.MultiheadAttention of this model")
    shared = {id(found[path]) for path in cross}
    made: dict[int, QuantizableAttention] = {}
    for path, attention in found.items():
        _check_plain(path, attention)
        if id(attention) not in made:
            settings = {"cross": id(attention) in shared, "name": path}
            made[id(attention)] = QuantizableAttention(attention, **settings)
        if not path:
            return made[id(attention)]
        model.set_submodule(path, made[id(attention)])
    for module in places.values():
        if type(module) in _OPENED:
            module.__class__ = _OPENED[type(module)]
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    return model


def _check_plain(path: str, attention: nn.MultiheadAttention) -> None:
    hooks = attention._forward_hooks or attention._forward_pre_hooks
    exchanged = not isinstance(attention.out_proj, nn.Linear)
    if type(attention) is nn.MultiheadAttention and not hooks and not exchanged:
        return
    kind = type(attention).__name__
    what = "has hooks" if hooks else "has another out_proj" if exchanged else f"is a {kind}"
    cause = f"{path or 'The model'} {what}: it is no plain nn.MultiheadAttention."
    fix = "Remove hooks and parametrizations first, or write this attention with nn.Linear."
    raise ModelError(cause, f"{fix} {KEEP}")


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight, linear.bias = weight, bias
    return linear


def _separate(attention: nn.MultiheadAttention) -> list[nn.Linear]:
    if attention._qkv_same_embed_dim:
        weights = attention.in_proj_weight.chunk(3)
    else:
        weights = attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight
    biases = [None] * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
    return [
        _linear(*(None if x is None else nn.Parameter(x.detach().clone()) for x in pair))
        for pair in zip(weights, biases, strict=True)
    ]


def _added(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)


def _attend(q, k, v, mask, dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
    weights = F.dropout(torch.softmax(scores if mask is None else scores + mask, -1), dropout)
    return weights @ v, weights


def _opened(kind: type[nn.Module]) -> type[nn.Module]:
    # torch 2.8 captures as one piece, without the modules in it, what functions of torch.nn do.
    own = {"__module__": __name__}
    for name, given in vars(kind).items():
        if isinstance(given, FunctionType):
            parts = (given.__globals__, name, given.__defaults__, given.__closure__)
            own[name] = FunctionType(given.__code__, *parts)
            own[name].__module__, own[name].__kwdefaults__ = __name__, given.__kwdefaults__
    return type(kind.__name__, (kind,), own)


# By these names, so that torch.save finds them.
Transformer = _opened(nn.Transformer)
TransformerEncoder = _opened(nn.TransformerEncoder)
TransformerEncoderLayer = _opened(nn.TransformerEncoderLayer)
TransformerDecoder = _opened(nn.TransformerDecoder)
TransformerDecoderLayer = _opened(nn.TransformerDecoderLayer)
_OPENED = {
    kind.__base__: kind
    for kind in (
        Transformer,
        TransformerEncoder,
        TransformerEncoderLayer,
        TransformerDecoder,
        TransformerDecoderLayer,
    )
}
