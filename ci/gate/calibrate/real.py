"""The gate's error rates on this machine: a small model against itself, and against slower ones.

Real processes, judged by the code of `paired`. The few comparisons that time allows give coarse rates; the
pairs in which nothing changed are kept, and `--replay` draws from their noise again and again.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ci.gate.calibrate.simulate import Replayed, at_least, at_most
from ci.gate.paired.comparison import Comparison, measured_by
from ci.gate.paired.pairs_file import PairsFile, read_pairs
from ci.gate.paired.sequential import LEAST_PAIRS
from ci.gate.paired.sides import ROOT, Side
from ci.gate.verdicts import THRESHOLD, Word
from fixtures.core.base.errors import InputError

LAYERS = 20
NOTHING = "nothing"
_BATCHES = [1, 2, 4]


@dataclass(frozen=True)
class Planted:
    """What the new side has more than the base: so many layers, or a sleep in each forward."""

    name: str
    layers: int = 0
    sleeps: bool = False


PLANTED = (
    Planted(NOTHING),
    Planted("a sleep in each forward", sleeps=True),
    Planted("1 layer of 20 more", layers=1),
    Planted("2 layers of 20 more", layers=2),
)


def suite(layers: int) -> dict[str, Any]:
    """A small Llama that is nearly all layers; its name does not say how many."""
    architecture = {
        "model_type": "llama",
        "vocab_size": 1000,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
    }
    sweep = {"name": "small", "batch_sizes": _BATCHES, "input_lengths": [32], "output_lengths": [16]}
    return {
        "description": "made by python -m ci.gate calibrate --real",
        "rounds": 5,
        "warmup_rounds": 2,
        "models": [{"name": "small", "architecture": architecture}],
        "hardware": ["1xany"],
        "sweeps": [sweep],
    }


def measure(
    times: int,
    pairs: int,
    minutes: float,
    say: Callable[[str], None],
    side: Side | None = None,
    folder: Path | None = None,
) -> Path:
    """Run so many comparisons of each kind in turn, print their table, return the folder of the pairs."""
    side = Side("this checkout", ROOT, env={"PYTHONPATH": str(ROOT)}) if side is None else side
    if folder is None:
        folder = ROOT / ".benchmarks" / "calibrate" / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    folder.mkdir(parents=True)
    options = [_options(folder, one) for one in PLANTED]
    ids = side.ids(options[0])
    start = time.monotonic()
    found: dict[str, list[Comparison]] = {one.name: [] for one in PLANTED}
    words: dict[str, list[Counter[Word]]] = {one.name: [] for one in PLANTED}
    for number in range(times):
        for kind, planted in enumerate(PLANTED):
            left_s = 60 * minutes - (time.monotonic() - start)
            if left_s <= 0:
                continue
            say(f"comparison {number + 1} of {times}, planted: {planted.name}")
            about = {"planted": planted.name, "state": side.state(), "cases": ids}
            kept = PairsFile(folder / f"planted_{kind}_{number}.jsonl", about)
            kept.start()
            one = Comparison(
                ids,
                (measured_by(side, options[0]), measured_by(side, options[kind])),
                math.log1p(THRESHOLD),
                kept,
                say,
                pairs,
                left_s,
                same_work=False,  # the counters would tell at once; here the time has to
            )
            words[planted.name].append(Counter(verdict.word for verdict in one.run()))
            found[planted.name].append(one)
    lines = _table(ids, found, words)
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    say("\n".join(lines))
    return folder


def _options(folder: Path, planted: Planted) -> list[str]:
    """What pytest is told; the suite is written to the folder."""
    file = folder / f"layers_{LAYERS + planted.layers}.yaml"
    file.write_text(json.dumps(suite(LAYERS + planted.layers)), encoding="utf-8")
    plugin = ["-p", "ci.gate.calibrate.sleeping"] if planted.sleeps else []
    return ["--suite", str(file), *plugin]


def _table(
    ids: list[str], found: dict[str, list[Comparison]], words: dict[str, list[Counter[Word]]]
) -> list[str]:
    """A row for each kind: the verdicts of its cases."""
    lines = [
        "| planted | comparisons | of cases | REGRESSED | PASS | INCONCLUSIVE | others | median ratio | "
        "pairs a case |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, comparisons in found.items():
        if not comparisons:
            continue
        count: Counter[Word] = sum(words[name], Counter())
        cases = sum(count.values())
        red = count[Word.REGRESSED]
        share = f"{100 * red / cases:.0f} %"
        share += (
            f" (> {100 * at_least(red, cases):.0f} %)"
            if name != NOTHING
            else f" (< {100 * at_most(red, cases):.2g} %)"
        )
        others = cases - red - count[Word.PASS] - count[Word.INCONCLUSIVE]
        logs = [one.pairs(case_id) for one in comparisons for case_id in ids]
        ratio = math.exp(float(np.median([x for one in logs for x in one]))) if any(logs) else math.nan
        lines.append(
            f"| {name} | {len(comparisons)} | {cases} | {share} | {count[Word.PASS]} | "
            f"{count[Word.INCONCLUSIVE]} | {others} | {ratio:.3f} | {sum(map(len, logs)) / cases:.1f} |"
        )
    return lines


def replayed(folder: Path) -> tuple[Replayed, int]:
    """The noise of the comparisons in which nothing was planted, and of how many pairs it is.

    Raises InputError for a folder without such.
    """
    blocks = []
    for file in sorted(folder.glob("*.jsonl")):
        about, pairs, _ = read_pairs(file)
        if about.get("planted") != NOTHING:
            continue
        cases = [str(one) for one in about["cases"]]
        whole = [one.ratios for one in pairs if one.series == 1 and set(cases) <= set(one.ratios)]
        if len(whole) >= LEAST_PAIRS:
            blocks.append(np.array([[one[case_id] for one in whole] for case_id in cases]))
    if not blocks or len({len(one) for one in blocks}) != 1:
        raise InputError(
            f"--replay {folder}: holds no comparison of {LEAST_PAIRS} pairs in which nothing was planted; "
            "make one by calibrate --real"
        )
    return Replayed(blocks), sum(one.shape[1] for one in blocks)
