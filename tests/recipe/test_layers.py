import pytest
from torch import fx, nn

from xpuqlib.errors import RecipeError
from xpuqlib.recipe.layers import layer_kind, layer_names, module_path, refuse_unknown
from xpuqlib.recipe.pt2e import capture


def test_layers_have_the_names_of_their_modules(tiny):
    model, x = tiny
    nested = nn.Sequential(nn.Sequential(model)).eval()
    graph = capture(nested, (x,))
    assert layer_names(graph) == ("0.0.conv", "0.0.linear")
    kinds = {module_path(node): layer_kind(node) for node in graph.graph.nodes if layer_kind(node)}
    assert kinds == {"0.0.conv": "conv", "0.0.linear": "linear"}


def test_a_text_that_is_no_path_stays_as_it_is():
    node = fx.Graph().placeholder("x")
    node.meta["nn_module_stack"] = {"key": ("getattr(other, name)", nn.Module)}
    assert module_path(node) == "getattr(other, name)"


def test_a_module_that_is_called_twice_is_one_layer(tiny):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(self.conv(x))

    assert layer_names(capture(Twice().eval(), (tiny[1],))) == ("conv",)


def test_unknown_names_are_refused_with_the_nearest():
    refuse_unknown(["layer1.0.conv1"], ["layer1.0.conv1"], what="layer")
    with pytest.raises(RecipeError, match=r"'layer1\.0\.conv3'(?s:.)*Use layer1\.0\.conv"):
        refuse_unknown(["layer1.0.conv3"], ["layer1.0.conv1", "fc"], what="layer")
    with pytest.raises(RecipeError, match=r"no setting 'zzz'\.(?s:.)*Use fc"):
        refuse_unknown(["zzz"], ["fc"], what="setting")
