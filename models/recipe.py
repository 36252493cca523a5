"""Training recipes: TOML files that hold everything that decides the outcome of a training run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from intsim.errors import IntsimError

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NetworkTable(_Table):
    """What is trained. `widths` are channel counts; what they mean is the family's business."""

    family: Literal["dispnet", "dpt"] = "dispnet"
    order: Annotated[int, Field(ge=0, le=4)]
    dimensions: Literal[2, 3] = 2
    guide: bool = False
    widths: list[Count]
    noise: Amount
    inputs: Literal["cost-volume", "concat"] = "cost-volume"
    embedding: Annotated[int, Field(ge=0, le=16)] = 0


class DataTable(_Table):
    """Generated pairs: their size in pixels, how many, and of which kind."""

    height: Annotated[int, Field(ge=16, multiple_of=16)]
    width: Annotated[int, Field(ge=32, multiple_of=16)]
    train: Count
    validation: Count
    scenes: Literal["plain", "hard"] = "plain"


class TrainingTable(_Table):
    """How it is trained. `patience`: validations without a better mean before an early stop, 0 for never."""

    seed: Annotated[int, Field(ge=0)]
    steps: Count
    batch: Count
    learning_rate: Amount
    warmup: Annotated[int, Field(ge=0)]
    weight_decay: Amount
    invalid_weight: Amount
    bfloat16: bool
    validate_every: Count
    patience: Annotated[int, Field(ge=0)] = 0
    guide_weight: Amount = 0.3
    agree_weight: Amount = 0.0
    commit_weight: Amount = 0.0
    depth_weight: Amount = 0.0


class QuantizationTable(_Table):
    """Fine-tuning of a quantized network, from the float network `start`: a zoo name, or a checkpoint's path."""

    start: str
    weights: Literal["int", "ternary", "binary", "a2q", "a2q+"]
    accumulator_bits: Annotated[int, Field(ge=12, le=32)] = 32
    weight_bits: Annotated[int, Field(ge=2, le=8)] = 8
    activation_bits: Annotated[int, Field(ge=2, le=8)] = 8
    per_channel: bool = True
    power_of_two: bool = False
    first: Literal["integer", "float"] = "integer"


class Recipe(_Table):
    """A whole recipe; a table ``quantization`` makes it one that goes on from a trained float network."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]+$")]
    network: NetworkTable
    data: DataTable
    training: TrainingTable
    quantization: QuantizationTable | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.training.batch > self.data.train:
            raise ValueError("training.batch must be at most data.train, the number of training pairs")
        if self.network.guide and not self.network.order:
            raise ValueError("network.guide: a plain head (order 0) is its own guide")
        return self


def checked(document: dict[str, Any], source: str = "recipe") -> dict[str, Any]:
    """A recipe with every key, defaults filled in; ``quantization`` only where there is such a table.

    Raises:
        IntsimError: a key is missing, unknown, of the wrong type or out of range; `source` is named.
    """
    try:
        return Recipe.model_validate(document).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise IntsimError(
            f"{source}: {place or 'recipe'}: {first['msg']} (given: {str(first['input'])[:60]})"
        ) from None


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe: ``name`` and the tables ``network``, ``data``, ``training`` and perhaps ``quantization``.

    Raises:
        IntsimError: the file can't be read, is not TOML, or is no recipe (see `checked`).
    """
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise IntsimError(f"{path}: can't be read as a recipe ({error})") from None
    return checked(document, str(path))
