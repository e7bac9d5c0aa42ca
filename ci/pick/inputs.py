"""What the command line names: models and prices."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ci.pick.estimator import model_of
from ci.report.read.samples import Curve
from fixtures.core.base.errors import InputError, one_of
from fixtures.core.base.names import slug
from fixtures.core.base.node import Node, as_node
from fixtures.core.base.yamlfile import read_yaml
from fixtures.core.spec import library
from fixtures.core.spec.case import ModelSpec
from fixtures.core.spec.checkpoint import read_folder
from fixtures.core.spec.checks import check_architecture

_LEAST_USD = 1e-6  # an hour: beyond it, or its inverse, a price is a slip and costs overflow


def read_prices(file: Path, devices: Collection[str]) -> dict[str, float]:
    """Read prices of one device for an hour, `usd_per_hour: {a100_80gb: 1.8}`.

    Raises InputError for anything else, and for a device that is neither in `devices` nor in the library: its
    price would be ignored silently.
    """
    keys = read_yaml(file, str(file)).mapping(("usd_per_hour",), required=("usd_per_hour",))
    prices = keys["usd_per_hour"].mapping()
    if not prices:
        raise keys["usd_per_hour"].error("is empty; write {device: price}")
    known = {*devices, *library.names("hardware")}
    for device, node in prices.items():
        if device not in known:
            raise node.error(f"no device is named {device!r}; {one_of(device, known)}")
    return {device: _price(node) for device, node in prices.items()}


def _price(node: Node) -> float:
    usd = node.number()
    if not _LEAST_USD <= usd <= 1 / _LEAST_USD:
        raise node.error(f"is {usd}; write US$ an hour, between {_LEAST_USD:g} and {1 / _LEAST_USD:g}")
    return usd


def given_model(asked: str, found: Sequence[Curve]) -> ModelSpec:
    """The model of a yaml, of a checkpoint's folder, of the library or of the runs.

    Raises InputError if none has it.
    """
    if asked.endswith(".yaml"):
        file = Path(asked)
        return library.read_model(file.stem, read_yaml(file, asked))
    if asked in library.names("models"):
        return library.model(asked)
    known = {curve.model: curve.samples[0] for curve in found if curve.samples}
    if asked in known:
        return model_of(known[asked])
    folder = Path(asked).parent if asked.endswith("/config.json") else Path(asked)
    if folder.is_dir():
        try:
            config = read_folder(str(folder))
        except InputError as error:
            raise InputError(f"--model {error}") from None
        check_architecture(as_node(config, f"--model {asked}"), written=False, trusted=False)
        return ModelSpec(slug(folder.resolve().name), config)
    raise InputError(
        f"--model {asked}: no run and not yamls/models has it, and it is no folder with a config.json; "
        f"{one_of(asked, {*known, *library.names('models')})}"
    )
