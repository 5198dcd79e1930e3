"""The rewrite of nn.MultiheadAttention: the same numbers, from modules that the quantizer finds."""

import copy
import itertools

import pytest
import torch
from conftest import quantize
from torch import nn

from xpuqlib.errors import ModelError, RecipeError
from xpuqlib.proof.graph import quantizable_layers
from xpuqlib.recipe import attention as rewritten_transformers
from xpuqlib.recipe.attention import QuantizableAttention, rewrite_attention
from xpuqlib.recipe.layers import layer_name, layer_names
from xpuqlib.recipe.pt2e import capture

ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # the same sums of float32, in another order
ROWS, QUERIES, KEYS, WIDTH, HEADS = 3, 5, 7, 16, 4
TRANSFORMERS = "Transformer", "TransformerEncoder", "TransformerDecoder"


def attention(**settings):
    torch.manual_seed(0)
    made = nn.MultiheadAttention(WIDTH, HEADS, **settings).eval()
    for parameter in made.parameters():  # biases begin as zeros, which would hide a lost one
        nn.init.normal_(parameter, std=0.3)
    return made


def tensors(*lengths, batch_first=True, widths=(WIDTH, WIDTH, WIDTH)):
    shape = (ROWS, -1) if batch_first else (-1, ROWS)
    sizes = zip(lengths, widths, strict=False)
    made = (torch.randn(*(n if s == -1 else s for s in shape), width) for n, width in sizes)
    return list(made)


def masks(kind, queries, keys):
    """Masks in which every query keeps one key at least: without one the result is NaN."""
    seen = torch.rand(queries, keys) > 0.3
    seen[:, 0] = True
    by_head = torch.rand(ROWS * HEADS, queries, keys) > 0.3
    by_head[..., 0] = True
    padding = torch.arange(keys).expand(ROWS, -1) >= torch.tensor([[keys], [keys - 2], [1]])
    added = torch.zeros(queries, keys).masked_fill(~seen, -3.0)
    return {
        "none": {},
        "bool": {"attn_mask": ~seen},
        "float": {"attn_mask": added},
        "by head": {"attn_mask": ~by_head},
        "padding": {"key_padding_mask": padding},
        "float padding": {"key_padding_mask": torch.zeros(ROWS, keys).masked_fill(padding, -2.0)},
        "both": {"attn_mask": ~seen, "key_padding_mask": padding},
        "causal": {
            "attn_mask": nn.Transformer.generate_square_subsequent_mask(queries),
            "is_causal": True,
        },
    }[kind]


KINDS = ("none", "bool", "float", "by head", "padding", "float padding", "both", "causal")


def compare(original, rewritten, inputs, **settings):
    with torch.no_grad():
        expected, weights = original(*inputs, **settings)
        got, our_weights = rewritten(*inputs, **settings)
    torch.testing.assert_close(got, expected, **ROUNDING)
    assert (weights is None) == (our_weights is None)
    if weights is not None:
        torch.testing.assert_close(our_weights, weights, **ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("bias_k", "zero"), list(itertools.product([False, True], repeat=2)))
def test_self_attention_gives_the_same(kind, batch_first, bias_k, zero):
    original = attention(batch_first=batch_first, add_bias_kv=bias_k, add_zero_attn=zero)
    rewritten = rewrite_attention(original)
    [x] = tensors(QUERIES, batch_first=batch_first)
    for need, average in ((False, True), (True, True), (True, False)):
        settings = {"need_weights": need, "average_attn_weights": average}
        compare(original, rewritten, (x, x, x), **settings, **masks(kind, QUERIES, QUERIES))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "causal"])
@pytest.mark.parametrize("widths", [{}, {"kdim": 6, "vdim": 10}])
@pytest.mark.parametrize("bias", [True, False])
def test_cross_attention_gives_the_same(kind, widths, bias):
    original = attention(batch_first=True, bias=bias, **widths)
    rewritten = rewrite_attention(original, cross=[""])
    sizes = (WIDTH, widths.get("kdim", WIDTH), widths.get("vdim", WIDTH))
    inputs = tensors(QUERIES, KEYS, KEYS, widths=sizes)
    for need in (False, True):
        compare(original, rewritten, inputs, need_weights=need, **masks(kind, QUERIES, KEYS))
    if not widths:
        query, key, _ = inputs
        compare(original, rewritten, (query, key, key))


@pytest.mark.parametrize("need_weights", [False, True])
def test_one_sequence_without_a_batch_gives_the_same(need_weights):
    original, x = attention(batch_first=True), torch.randn(QUERIES, WIDTH)
    padding = torch.arange(QUERIES) >= 3
    settings = {"need_weights": need_weights, "key_padding_mask": padding}
    compare(original, rewrite_attention(original), (x, x, x), **settings)


def test_dropout_is_off_in_eval_mode_and_on_in_training():
    rewritten, [x] = rewrite_attention(attention(dropout=0.5)), tensors(QUERIES)
    for need_weights in (False, True):
        call = {"need_weights": need_weights}
        once, again = (rewritten.eval()(x, x, x, **call)[0] for _ in range(2))
        assert torch.equal(once, again)
        rewritten.train()
        assert not torch.equal(rewritten(x, x, x, **call)[0], rewritten(x, x, x, **call)[0])


def test_the_model_is_copied_and_shared_attention_stays_shared():
    block = nn.ModuleDict({"a": attention(), "c": nn.Linear(4, 4)})
    block["b"] = block["a"]
    rewritten = rewrite_attention(block)
    assert isinstance(block["a"], nn.MultiheadAttention)
    assert isinstance(rewritten["a"], QuantizableAttention)
    assert rewritten["a"] is rewritten["b"]
    assert rewritten["c"] is not block["c"]


def test_cross_attention_that_was_not_named_is_refused_by_name():
    model = nn.ModuleDict({"seen": attention(batch_first=True)})
    query, key = tensors(QUERIES, KEYS)
    with pytest.raises(ModelError, match=r"seen gets a key(?s:.*)cross=\['seen'\]"):
        rewrite_attention(model)["seen"](query, key, key)
    compare(model["seen"], rewrite_attention(model, ["seen"])["seen"], (query, key, key))
    with pytest.raises(RecipeError, match=r"no nn\.Multi(?s:.*)'sen'(?s:.*)seen"):
        rewrite_attention(model, "sen")


def test_a_causal_hint_without_a_mask_is_refused():
    [x] = tensors(QUERIES)
    with pytest.raises(ModelError, match="there is no attn_mask"):
        rewrite_attention(attention())(x, x, x, is_causal=True)


def test_nested_tensors_are_refused():
    x = torch.nested.nested_tensor([torch.randn(2, WIDTH)], layout=torch.jagged)
    with pytest.raises(ModelError, match="Nested tensors"):
        rewrite_attention(attention(batch_first=True))(x, x, x)


class Other(nn.MultiheadAttention):
    pass


def hooked():
    made = attention()
    made.register_forward_hook(lambda *_: None)
    return made


def exchanged():
    made = attention()
    made.out_proj = nn.Identity()
    return made


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: Other(WIDTH, HEADS), "is a Other"),
        (hooked, "has hooks"),
        (exchanged, "has another out_proj"),
    ],
)
def test_what_is_no_plain_attention_is_refused_by_name(made, why):
    with pytest.raises(ModelError, match=f"here {why}"):
        rewrite_attention(nn.ModuleDict({"here": made()}))


class Encoder(nn.Module):
    """Two encoder layers; with a mask for padding if it is given one."""

    def __init__(self, nested=True, **settings):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True, **settings)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x, padding=None):
        return self.head(self.encoder(x, src_key_padding_mask=padding)[:, 0])


LINEARS = [
    *(
        f"encoder.layers.{number}.{name}"
        for number in range(2)
        for name in ("self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2")
    ),
    "head",
]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_all_linear_layers_of_an_encoder_are_quantized(norm_first, padded):
    settings = {"activation": "gelu", "norm_first": norm_first}
    model, [x] = Encoder(**settings, nested=not norm_first).eval(), tensors(QUERIES)
    padding = torch.arange(QUERIES).expand(ROWS, -1) >= torch.tensor([[5], [3], [1]])
    inputs = (x, padding) if padded else (x,)
    rewritten = rewrite_attention(model)
    captured = capture(rewritten, inputs)
    with torch.no_grad():
        for other in (rewritten, captured):
            torch.testing.assert_close(other(*inputs), model(*inputs), **ROUNDING)
    assert list(layer_names(captured)) == LINEARS
    found = quantizable_layers(quantize(captured, *inputs))
    assert [layer.name for layer in found if layer.scale is not None] == LINEARS


def test_a_whole_transformer_is_rewritten_with_its_cross_attention_named():
    torch.manual_seed(0)
    model = nn.Transformer(WIDTH, HEADS, 2, 2, 32, batch_first=True).eval()
    cross = [f"decoder.layers.{number}.multihead_attn" for number in range(2)]
    rewritten = rewrite_attention(model, cross)
    inputs = tuple(tensors(KEYS, QUERIES))
    with torch.no_grad():
        torch.testing.assert_close(rewritten(*inputs), model(*inputs), **ROUNDING)
    names = layer_names(capture(rewritten, inputs))
    assert sum("multihead_attn" in name for name in names) == 2 * 4
    assert len(names) == 2 * (2 + 2) + 2 * (2 + 4 + 2)


def test_a_rewritten_transformer_can_be_copied_and_saved(tmp_path):
    model, [x] = rewrite_attention(Encoder().eval()), tensors(QUERIES)
    for name in TRANSFORMERS:
        assert getattr(rewritten_transformers, name).__module__ == rewritten_transformers.__name__
    torch.save(model.encoder, tmp_path / "encoder.pt")
    loaded = torch.load(tmp_path / "encoder.pt", weights_only=False)
    with torch.no_grad():
        assert torch.equal(loaded(x), copy.deepcopy(model).encoder(x))


def test_layers_of_plain_attention_have_names_of_their_own():
    captured = capture(Encoder().eval(), tuple(tensors(QUERIES)))
    assert list(layer_names(captured)) == LINEARS
    cross = capture(attention(batch_first=True), tuple(tensors(QUERIES, KEYS, KEYS)))
    assert layer_names(cross) == ("in_proj[0]", "in_proj[1]", "in_proj[2]", "out_proj")
    [product] = cross.graph.find_nodes(op="call_function", target=torch.ops.aten.mul.Tensor)
    assert layer_name(product) == "mul"  # no linear layer


def test_capture_leaves_the_fast_path_as_it_was():
    model, [x] = Encoder().eval(), tensors(QUERIES)
    for enabled in (False, True):
        torch.backends.mha.set_fastpath_enabled(enabled)
        captured = capture(model, (x,))
        assert torch.backends.mha.get_fastpath_enabled() == enabled
        assert "_transformer_encoder_layer_fwd" not in captured.code
