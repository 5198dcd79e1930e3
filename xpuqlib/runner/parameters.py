"""The parameters of the lessons: one schema for the notebooks, the command line and the book."""

import ast
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas
import papermill
from nbformat.validator import ValidationError as JsonSchemaError
from papermill.iorw import load_notebook_node
from papermill.utils import find_first_tagged_cell_index
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from xpuqlib.errors import (
    DataError,
    ModelError,
    ParameterError,
    RecipeError,
    RunError,
    XpuqError,
    explained,
)
from xpuqlib.material.factory import (
    check_weights,
    find_factory,
    find_file,
    find_own_model,
    is_factory,
    is_own_model,
)
from xpuqlib.names import CONFIGURATIONS, DATA, DEVICES, MODELS, RESCALED, TRANSFORMERS, WEIGHTS

__all__ = [
    "LessonParameters",
    "check_parameters",
    "describe_parameters",
    "notebook_parameters",
    "split_assignments",
]

FIX = "Name an .ipynb file that JupyterLab opens and saves."


def _existing_data(value: str) -> str:
    if value in DATA or Path(value).is_dir():
        return value
    if is_factory(value):
        return find_factory(value, DataError)
    raise ValueError(f"neither {' nor '.join(DATA)} nor a folder that exists, nor FILE.py:FUNCTION")


def _known_model(value: str) -> str:
    if is_own_model(value):
        return find_own_model(value)
    if value not in (*MODELS, *RESCALED, *TRANSFORMERS):
        # It imports torch, which the names of the lessons and this module do without.
        with explained(ImportError, f"{value} cannot be looked up", "Run: xpuq doctor", ModelError):
            from xpuqlib.material.models import check_name
        check_name(value)
    return value


def _existing_weights(value: str) -> str:
    fix = f"Take {', '.join(WEIGHTS)}, or a file that torch.save wrote of model.state_dict()."
    return value if value in WEIGHTS else find_file(value, ModelError, fix)


def _existing_recipe(value: str) -> str:
    fix = "Lesson 09 writes such a file; empty for none."
    return value and find_file(value, RecipeError, fix)


def _file_to_keep(value: str) -> str:
    if value and not Path(value).parent.is_dir():
        raise ValueError(f"there is no folder {str(Path(value).parent)!r}")
    return value and str(Path(value).resolve())


_Model = Annotated[str, AfterValidator(_known_model)]
_Kept = Annotated[str, AfterValidator(_file_to_keep)]
_Recipe = Annotated[str, AfterValidator(_existing_recipe)]
_Weights = Annotated[str, AfterValidator(_existing_weights)]
_Data = Annotated[str, AfterValidator(_existing_data)]
_FACTORIES = ("FILE.py:FUNCTION", "MODULE:FUNCTION")
_OTHER_MODELS = ("any classifier of torchvision", *_FACTORIES, "FILE.pt2")


class LessonParameters(BaseModel):
    """Every parameter that a lesson of this kit may have, described by the text below it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    device: Literal[DEVICES] = "auto"
    """where to run; auto: xpu, cuda, then cpu"""
    model: _Model = Field("resnet18", examples=[*MODELS, *RESCALED, *TRANSFORMERS, *_OTHER_MODELS])
    """torchvision model, a transformer of this kit, or your own: what a function returns (its \
code is executed), or an exported program"""
    weights: _Weights = Field("digits", examples=[*WEIGHTS, "the file of a state dict"])
    """trained here on digits, torchvision's ImageNet weights, random, or yours; auto: digits, or \
as your own model comes"""
    data: _Data = Field("digits", examples=[*DATA, "a folder of images by class", *_FACTORIES])
    """images or text to calibrate and evaluate on, or what a function returns (its code is \
executed)"""
    configuration: Literal[CONFIGURATIONS] = "default"
    """the tutorial's asymmetric activations, or its symmetric ones"""
    image_size: int = Field(32, ge=32, le=1024)
    """pixels of a side"""
    batch_size: int = Field(32, ge=1)
    """images in a batch"""
    calibration_batches: int = Field(8, ge=1)
    """batches that the observers see"""
    seed: int = Field(0, ge=0, le=2**32 - 1)
    """seed of the choice of images and of random weights"""
    recipe: _Recipe = Field("", examples=["the file of a recipe"])
    """lesson 09's recipe.yml: configuration, exceptions, rewritten attention; empty for none"""
    rewritten_attention: bool = True
    """whether lesson 09 writes attention as linear layers first, which the quantizer finds"""
    max_drop: float = Field(0.01, ge=0.0001, le=0.5)
    """the accuracy that int8 may cost; 0.01 is a point"""
    timed_points: int = Field(4, ge=2)
    """points of lesson 09's curve that are compiled and timed, from all layers in int8 to none"""
    ranking: _Kept = Field("", examples=["the file of a ranking, new or begun"])
    """keeps what lesson 09 measures for each layer, and goes on from there; empty for none"""


_PLAIN_TYPES = {"int": int, "float": float, "bool": bool, "str": str}


def notebook_parameters(path: Path) -> dict[str, Any]:
    """Names of a notebook's parameters cell, with papermill's description of each.

    Raises
    ------
    RunError
        If the notebook cannot be read.
    ParameterError
        If it has no cell tagged ``parameters``: papermill would only warn, and the notebook's
        own defaults would win over what was asked for.
    """
    if path.suffix != ".ipynb":  # papermill would warn, and results are found by this ending
        raise RunError(f"{path} does not end in .ipynb.", FIX)
    # JSON that is no notebook fails in nbformat and papermill in many ways.
    kinds = (OSError, ValueError, AttributeError, KeyError, TypeError, JsonSchemaError)
    with explained(kinds, f"{path} cannot be read as a notebook", FIX):
        notebook = load_notebook_node(str(path.absolute()))
        parameters = papermill.inspect_notebook(str(path.absolute()))
    if find_first_tagged_cell_index(notebook, "parameters") < 0:
        fix = "Tag the cell that assigns the defaults (JupyterLab: Property Inspector, Cell tags)."
        raise ParameterError(f"{path.name} has no cell tagged 'parameters'.", fix)
    return parameters


def describe_parameters(path: Path | None = None) -> pandas.DataFrame:
    """One row a parameter: its name, type, choices, default and meaning.

    Parameters
    ----------
    path : pathlib.Path, optional
        A notebook, for its own parameters; None for all that a lesson can have.
    """
    schema = LessonParameters.model_json_schema()["properties"]
    own = notebook_parameters(path) if path else dict.fromkeys(schema)
    rows = []
    for name, parameter in own.items():
        field = schema.get(name, {})
        kind = type(field["default"]).__name__ if field else parameter["inferred_type_name"]
        default = parameter["default"].strip("\"'") if parameter else field["default"]
        meaning = field.get("description") or parameter["help"]
        rows.append((name, kind, _choices(field), default, meaning))
    return pandas.DataFrame(rows, columns=["parameter", "type", "choices", "default", "meaning"])


def _choices(field: dict[str, Any]) -> str:
    if listed := field.get("enum") or field.get("examples"):
        return ", ".join(listed)
    low, high = field.get("minimum"), field.get("maximum")
    return "" if low is None else f"{low} to {high}" if high is not None else f"at least {low}"


def split_assignments(assignments: list[str]) -> dict[str, str]:
    """``["batch_size=8"]`` as a dict of texts; raises ParameterError for other forms."""
    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if name in values:
            raise ParameterError(f"-p {name} is given twice.", "Give each parameter once.")
        if not equals or not name.isidentifier():
            raise ParameterError(f"-p {assignment} is not NAME=VALUE.", "Write -p batch_size=8.")
        values[name] = value
    return values


def check_parameters(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Values with the types that a notebook declares, checked before any kernel starts.

    Parameters
    ----------
    path : pathlib.Path
        The notebook.
    values : dict
        By name; texts are converted to the declared type.

    Returns
    -------
    dict
        The same names with typed values.

    Raises
    ------
    ParameterError
        For a name that the notebook does not have, a wrong type, or a value outside the choices.
    """
    known = notebook_parameters(path)
    checked = {}
    for name, value in values.items():
        if name not in known:
            names = ", ".join(known) or "none"
            raise ParameterError(f"{path.name} has no parameter {name!r}.", f"It has: {names}.")
        declared, meaning = _declared(name, known[name])
        try:
            checked[name] = TypeAdapter(declared).validate_python(value)
        except ValidationError as error:
            wrong = f"{name}={value} is not possible: {error.errors()[0]['msg']}."
            raise ParameterError(wrong, f"{name} is: {meaning}.") from error
        except XpuqError as error:
            cause = f"{name}={value} is not possible: {error.cause}"
            raise ParameterError(cause, error.fix) from error
    _check_together(checked, known)
    return checked


def _check_together(checked: dict[str, Any], known: dict[str, Any]) -> None:
    values = {name: own["default"].strip("\"'") for name, own in known.items()} | checked
    try:
        check_weights(values.get("model", ""), values.get("weights", "auto"))
    except XpuqError as error:
        fix = "Add -p weights=auto (as they come), or -p weights=FILE, a state dict."
        raise ParameterError(error.cause, fix) from error


def _declared(name: str, own: dict[str, Any]) -> tuple[Any, str]:
    """Type and meaning of a parameter; without annotation it has the type of its default."""
    if field := LessonParameters.model_fields.get(name):
        return Annotated[field.annotation, field], field.description
    kind = _PLAIN_TYPES.get(own["inferred_type_name"])
    if kind is None:
        try:
            kind = type(ast.literal_eval(own["default"]))
        except (ValueError, SyntaxError):  # the default is an expression: only the notebook knows
            kind = str
    return kind, own["help"] or own["inferred_type_name"]
