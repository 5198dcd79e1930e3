"""Leave the kit: a recipe as a script of plain torch, torchao and torchvision calls."""

from __future__ import annotations

import copy
import inspect
import io
import json
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import fx, nn

from xpuqlib.errors import RunError, explained
from xpuqlib.machine.environment import versions
from xpuqlib.material import text
from xpuqlib.material.factory import is_factory
from xpuqlib.material.transformers import VIT
from xpuqlib.names import RESCALED
from xpuqlib.recipe import attention, passes
from xpuqlib.recipe.attention import attends
from xpuqlib.recipe.layers import layer_kind

if TYPE_CHECKING:
    from xpuqlib.recipe.recipe import Recipe

__all__ = ["write_script"]

NAME, WEIGHTS, BATCHES = "quantize_my_model.py", "weights.pt", "calibration.pt"
ATTENTION = "rewritten_attention.py"
# What ImageNet's weights change when a GoogLeNet, an Inception or a VisionTransformer is built.
BUILT_WITH = ("aux_logits", "transform_input", "image_size")
# What stands for this kit's own in the file of the attention.
ERRORS = '''
class ModelError(ValueError):
    """What cannot be rewritten, with its fix."""

    def __init__(self, cause, fix):
        super().__init__(f"{cause}\\n  Fix: {fix}")


class RecipeError(ModelError):
    """A path that is not in the model."""


def refuse_unknown(names, known, *, what):
    """Raise for a name that is not known."""
    for name in names:
        if name not in known:
            raise RecipeError(f"There is no {what} {name!r}.", f"Use {', '.join(known)}.")

'''
# Our own rewrites that a script takes along, by what its graph has.
REWRITES = {
    "norms": (layer_kind, passes.keep_batch_norms),
    "folds": (layer_kind, passes._made_of, passes._computed, passes.fold_changed_biases),
    "cats": (passes._bound, passes.keep_cats_floating),
    "pools": (
        passes._pad_for_ceil_mode,
        passes._bound,
        passes.quantize_above_max_pool,
        passes.keep_max_pools_floating,
    ),
}
Batch = tuple[torch.Tensor, ...]


def write_script(
    recipe: Recipe,
    folder: Path | str,
    model: nn.Module,
    converted: fx.GraphModule,
    calibration: tuple[Batch, ...],
) -> Path:
    """Write ``quantize_my_model.py``, which quantizes the model as the recipe does, without us.

    Beside it go ``weights.pt``, the model's state dict, and ``calibration.pt``, the batches, and
    ``rewritten_attention.py`` where the recipe rewrites attention that the model has. The script
    gives the same output for the first batch as `lower` does here, bit for bit.

    The file of a factory or an exported program is not copied: the script needs it, and looks for
    it in its own folder, then where it is now. A factory of a module is imported as it is here.

    Parameters
    ----------
    recipe : Recipe
        Its `model` is a name of torchvision, ``vit``, ``text``, a factory or an exported program.
    folder : path
        Is made if it is missing; files of these names are replaced.
    model : torch.nn.Module
        The model in floating point, with its weights; before `rewrite_attention`.
    converted : torch.fx.GraphModule
        From ``convert_pt2e``; where it has max-pools, the script gets the rewrites for them.
    calibration : tuple of tuple of torch.Tensor
        All batches that the observers saw, in this order.

    Returns
    -------
    pathlib.Path
        Of the script.

    Raises
    ------
    RunError
        If the folder cannot be written.
    """
    folder = Path(folder)
    with torch.no_grad():
        script = _script(recipe, model, converted, calibration)
    batches = [tuple(x.cpu() for x in batch) for batch in calibration]
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    with explained(OSError, f"{folder} cannot be written", "Choose another folder.", RunError):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((WEIGHTS, _saved(state)), (BATCHES, _saved(batches))):
            _write_whole(folder / name, content)
        (folder / ATTENTION).unlink(missing_ok=True)  # of another recipe
        if recipe.rewritten_attention and attends(model):
            _write_whole(folder / ATTENTION, _without_this_kit(attention).encode())
        _write_whole(folder / NAME, script.encode())
    return folder / NAME


def _script(
    recipe: Recipe, model: nn.Module, converted: fx.GraphModule, calibration: tuple[Batch, ...]
) -> str:
    own_code = is_factory(recipe.model)
    exported = recipe.model.endswith(".pt2")
    place = recipe.model.rpartition(":")[0] if own_code else recipe.model
    source = Path(place).resolve() if place.endswith((".py", ".pt2")) else None
    if own_code:
        build = _from_factory(recipe.model)
    elif exported:
        build = (
            "program = torch.export.load(source)\n"
            "model = move_to_device_pass(program, device).module()"
        )
    else:
        build = _by_name(recipe.model, model, calibration[0])
    operators = [getattr(node.target, "_opname", "") for node in converted.graph.nodes]
    has = {
        "norms": any("batch_norm" in name for name in operators),
        "folds": passes.fold_changed_biases(copy.deepcopy(converted)) > 0,
        "cats": "cat" in operators,
        "pools": "max_pool2d" in operators,
    }
    needed = [name for name in REWRITES if has[name]]
    found = (f"{name} {version}" for name, version in versions().items() if version)
    settings = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    settings.filters["quoted"] = _quoted
    return settings.get_template("quantize.py.j2").render(
        recipe=recipe,
        model_name=re.sub(r"[^\w.:-]", "_", Path(recipe.model).name),
        name=NAME,
        weights=WEIGHTS,
        batches=BATCHES,
        versions=", ".join(found),
        build=build,
        source=source,
        own_code=own_code,
        exported=exported,
        torchvision=not (own_code or exported or recipe.model == "text"),
        text=recipe.model == "text",
        rewritten=recipe.rewritten_attention and attends(model),
        keeps_attention=not recipe.rewritten_attention and attends(model),
        minmax=recipe.observer == "minmax",
        changed=(recipe.configuration, recipe.observer) != ("default", "histogram"),
        float_layers=list(recipe.float_layers),
        float_activations=list(recipe.float_activations),
        rewrites=_sources(needed),
        **dict.fromkeys(REWRITES, False) | dict.fromkeys(needed, True),
    )


def _without_this_kit(module: ModuleType) -> str:
    """Give our own module as it is, with errors and a check of its own."""
    source = inspect.getsource(module)
    return re.sub(r"from xpuqlib.*\n(from xpuqlib.*\n)*", lambda _: ERRORS, source)


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # as ruff and black quote


def _from_factory(named: str) -> str:
    place, _, function = named.rpartition(":")
    if not place.endswith(".py"):
        return (
            f"sys.path.insert(0, {_quoted(str(Path.cwd()))})\n"
            f"model = importlib.import_module({_quoted(place)}).{function}()"
        )
    return (
        "sys.path.insert(0, str(source.parent))  # it may import what lies beside it\n"
        "# By its path: by its name, a types.py would be the standard library's.\n"
        'spec = importlib.util.spec_from_file_location(f"own_{source.stem}", source)\n'
        "own = importlib.util.module_from_spec(spec)\n"
        "sys.modules[spec.name] = own  # dataclasses and pickle look there\n"
        "spec.loader.exec_module(own)\n"
        f"model = own.{function}()\n"
        "# Inductor's processes search this path: a types.py must not come first there.\n"
        "sys.path.remove(str(source.parent))\n"
        "sys.path.append(str(source.parent))"
    )


def _by_name(name: str, model: nn.Module, example: Batch) -> str:
    classes = model(*example).shape[1]
    if name == "text":
        return _text_classifier(classes)
    settings = {"num_classes": classes}
    if name == "vit":
        return f"model = torchvision.models.VisionTransformer({_given(settings | VIT)})"
    settings |= {key: getattr(model, key) for key in BUILT_WITH if hasattr(model, key)}
    name = RESCALED.get(name, name)  # the weights are in the file
    return (
        f"model = torchvision.models.get_model({_quoted(name)}, weights=None, {_given(settings)})"
    )


def _given(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _text_classifier(classes: int) -> str:
    """Take the class of ``text`` along, as it is, with the words that it knows."""
    words = textwrap.fill(" ".join(text.WORDS), 90)
    constants = f'LENGTH, PADDING = {text.LENGTH}, "{text.PADDING}"\nWORDS = """\n{words}\n"""'
    source = inspect.getsource(text.TextClassifier)
    return f"{constants}.split()\n\n\n{source}\n\nmodel = TextClassifier({classes})"


def _sources(needed: list[str]) -> list[str]:
    """Give our own rewrites as they are, with the first line of what they say."""
    functions = dict.fromkeys(function for name in needed for function in REWRITES[name])
    sources = map(inspect.getsource, functions)
    return [re.sub(r'(""".*?)\n\n.*?"""', r'\1"""', source, flags=re.S) for source in sources]


def _saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(content)
    temporary.replace(path)
