"""Which hardware for a latency: answers held against the published csv by hand, and against a search."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.pick.__main__ import main
from ci.pick.answers import Answer, Target, answer, usd_per_million_tokens
from ci.report.read.samples import Curve, Sample, curves, newest, of_history, read_samples
from ci.tests.conftest import ROOT
from ci.tests.records import recorded
from ci.tests.report_histories import record, write
from fixtures.core.spec.case import Point
from fixtures.core.store.history import read_history

PUBLISHED = str(ROOT / "ci" / "baselines" / "published")
ASK = ("--model", "mpt7b", "--input", "512", "--output", "64")


def csv_points() -> dict[str, list[tuple[int, float]]]:
    """Hardware -> batch and seconds of MPT-7B's hardware figure."""
    found: dict[str, list[tuple[int, float]]] = {}
    with (Path(PUBLISHED) / "a100_2023.csv").open() as file:
        for row in csv.DictReader(file):
            if (row["figure"], row["model"]) == ("hardware", "mpt7b"):
                point = (int(row["batch_size"]), int(row["latency_ms"]) / 1000)
                found.setdefault(row["hardware"], []).append(point)
    return found


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The answers as a program gets them."""
    main([PUBLISHED, *ASK, "--json", *arguments])
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def curve(points: dict[int, float], hardware: str = "1xa", source: str = "measured", out: int = 64) -> Curve:
    """A curve of these batches and seconds."""
    devices, _, device = hardware.partition("x")
    samples = [
        Sample(f"m-{hardware}-hf-b{b}", "m", hardware, device, device, int(devices), "hf", Point(b, 512, out),
               source, latency_s, "", "f", recorded())
        for b, latency_s in points.items()
    ]  # fmt: skip
    return curves(samples)[0]


def test_the_first_is_four_a100_of_80_gb_at_batch_32(capsys: pytest.CaptureFixture[str]) -> None:
    """With 1187 tokens/s; exit code 0."""
    assert main([PUBLISHED, *ASK, "--latency", "2s"]) == 0
    heading, first, *_ = capsys.readouterr().out.splitlines()
    assert heading.split()[:6] == ["hardware", "engine", "source", "batch", "latency", "s"]
    assert first.split() == ["4xa100_80gb", "deepspeed", "published", "32", "1.726", "1187", "296.6", "-"]


@pytest.mark.parametrize("latency", [1.0, 1.3, 1.726, 2.0, 3.0, 9.0])
def test_every_hardware_has_its_best_published_batch(
    latency: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a search through the csv; the order is by tokens/s."""
    found = asked(capsys, "--latency", f"{latency}s")["answers"]
    assert len(found) == 6
    for one in found:
        fits = [(b * 64 / s, b) for b, s in csv_points()[one["hardware"]] if s <= latency]
        best = one["best"]
        assert one["meets"] is bool(fits)
        assert (best and best["batch_size"]) == max(fits, default=(0, None))[1]
    speeds = [one["best"]["output_tokens_per_s"] for one in found if one["meets"]]
    assert speeds == sorted(speeds, reverse=True)
    missed = [one["nearest"]["latency_s"] for one in found if not one["meets"]]
    assert missed == sorted(missed)


def test_the_least_latency_for_a_throughput(capsys: pytest.CaptureFixture[str]) -> None:
    """500 tokens/s: batch 16 on all of several devices; one device has not as much."""
    found = asked(capsys, "--throughput", "500")["answers"]
    assert [(one["hardware"], one["best"] and one["best"]["latency_s"]) for one in found] == [
        ("4xa100_80gb", 1.471), ("4xa100_40gb", 1.617), ("2xa100_80gb", 1.630), ("2xa100_40gb", 1.763),
        ("1xa100_80gb", None), ("1xa100_40gb", None),
    ]  # fmt: skip
    assert found[4]["nearest"]["batch_size"] == 64


def test_between_two_points_is_marked_and_stays_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Between 32 (1.726 s) and 64 (2.829 s) the line passes 2 s after batch 39; beyond 64 is nothing."""
    first = asked(capsys, "--latency", "2s")["answers"][0]
    latency = 1.726 + (2.829 - 1.726) * 7 / 32
    assert first["interpolated"]["batch_size"] == 39
    assert first["interpolated"]["latency_s"] == pytest.approx(latency)
    assert first["interpolated"]["output_tokens_per_s"] == pytest.approx(39 * 64 / latency)
    assert latency + (2.829 - 1.726) / 32 > 2
    slow = asked(capsys, "--latency", "100s")["answers"]
    assert all(one["interpolated"] is None for one in slow)
    assert main([PUBLISHED, *ASK, "--latency", "2s"]) == 0
    text = capsys.readouterr().out
    assert "not measured:\n  4xa100_80gb deepspeed (published): batch 39, 1.97 s, 1269 tokens/s" in text


SECONDS = st.floats(0.1, 10, allow_nan=False)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(latencies=st.lists(SECONDS, min_size=1, max_size=5), goal=SECONDS, by_latency=st.booleans())
def test_no_whole_batch_on_the_lines_is_better(latencies: list[float], goal: float, by_latency: bool) -> None:
    """Against a search of every whole batch between the smallest and the largest."""
    points = {4**i: s for i, s in enumerate(latencies)}
    target = Target(latency_s=goal) if by_latency else Target(tokens_per_s=100 * goal)
    (one,) = answer([curve(points)], target, {})
    found = []
    for low, high in zip(points, [*points][1:] or [*points], strict=False):
        for batch in range(low, high + 1):
            share = (batch - low) / (high - low) if high > low else 0
            between = points[low] + share * (points[high] - points[low])
            latency_s = points.get(batch, between)  # on a point it is the point's, without rounding
            if latency_s <= goal if by_latency else batch * 64 / latency_s >= 100 * goal:
                found.append((-batch * 64 / latency_s if by_latency else latency_s, batch))
    ours = one.between or one.best
    if ours is None:
        assert all(batch not in points for _, batch in found)
    else:
        assert target.rank(ours) == pytest.approx(min(found)[0], rel=1e-6)
        assert min(points) <= ours.batch_size <= max(points)


def test_the_cost_is_that_of_all_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two at 3.6 $ an hour are 0.002 $/s; at 1000 tokens/s a million takes 1000 s: 2 $."""
    assert usd_per_million_tokens(3.6, 2, 1000) == pytest.approx(2.0)
    (tmp_path / "prices.yaml").write_text("usd_per_hour:\n  a100_80gb: 1.8\n")
    found = asked(capsys, "--latency", "2s", "--price", str(tmp_path / "prices.yaml"))["answers"]
    costs = {one["hardware"]: one["usd_per_million_output_tokens"] for one in found}
    assert costs["4xa100_80gb"] == pytest.approx(4 * 1.8 / 3600 * 1e6 / (32 * 64 / 1.726))
    assert costs["4xa100_40gb"] is None


def test_the_ranks_of_one_cpu_are_paid_for_once() -> None:
    """Two GPUs cost twice as much as one; a CPU that is split in two is still one."""
    (cpu,), (gpus,) = (
        answer([curve({8: 1.0}, hardware)], Target(latency_s=2), {"cpu": 0.36, "l4": 0.36})
        for hardware in ("2xcpu", "2xl4")
    )
    assert cpu.usd_per_million_tokens == pytest.approx(0.36 / 3600 * 1e6 / 512)
    assert gpus.usd_per_million_tokens == pytest.approx(2 * 0.36 / 3600 * 1e6 / 512)


def test_who_is_dominated_by_whom() -> None:
    """Equal in all is not dominated; a lower cost saves one, where both have a price."""
    fast, slow, twin = curve({8: 1.0}), curve({8: 2.0}, "1xb"), curve({8: 1.0}, "1xc")
    target = Target(latency_s=3.0)

    def names(found: list[Answer]) -> dict[str, tuple[str, ...]]:
        return {one.curve.hardware: one.dominated_by for one in found}

    assert names(answer([fast, slow, twin], target, {})) == {
        "1xa": (), "1xc": (), "1xb": ("1xa hf (measured)", "1xc hf (measured)")
    }  # fmt: skip
    assert names(answer([fast, slow], target, {"a": 4.0, "b": 1.0}))["1xb"] == ()
    assert names(answer([fast, slow], target, {"a": 4.0}))["1xb"] == ("1xa hf (measured)",)
    two = curve({16: 1.5}, "2xa")  # more tokens/s, fewer a device
    assert names(answer([fast, two], target, {})) == {"1xa": (), "2xa": ()}


def test_of_several_runs_the_newest_counts_and_not_the_luckiest(tmp_path: Path) -> None:
    """Whatever the order of the files; published and measured stay apart."""
    record = {"record_version": 4, "case": {
        "id": "x", "model": {"name": "m"}, "hardware": "1xl4", "device": "l4", "devices": 1,
        "engine": {"name": "hf"}, "batch_size": 1, "input_len": 2, "output_len": 3,
    }}  # fmt: skip
    for name, day, latency_s, source in (
        ("a", "2026-01-02", 5.0, None), ("b", "2026-01-01", 4.0, None), ("c", "2023", 3.0, "published"),
    ):  # fmt: skip
        one = {**record, "latency_mean_s": latency_s, "source": source}
        values = {"machine_info": {}, "benchmarks": [{"extra_info": one}], "datetime": day}
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    found = newest(read_samples([tmp_path]))
    assert [(one.latency_s, one.source) for one in found] == [(5.0, "measured"), (3.0, "published")]
    assert len(curves(found)) == 2


@pytest.mark.parametrize("path", ["case", "case.model", "case.devices", "case.engine", "latency_mean_s",
                                  "case.batch_size", "case.hardware"])  # fmt: skip
@pytest.mark.parametrize("value", [None, -1, 0, True, "a\nb", [], {}, 1e400])
def test_a_record_that_lacks_a_part_is_left_out(path: str, value: Any, tmp_path: Path) -> None:
    """Never a number that is none."""
    values = json.loads((Path(PUBLISHED) / "a100_2023.json").read_text())
    values["benchmarks"], values["outcomes"] = values["benchmarks"][:1], []
    inside = values["benchmarks"][0]["extra_info"]
    *parents, last = path.split(".")
    for key in parents:
        inside = inside[key]
    inside[last] = value
    file = tmp_path / "one.json"
    file.write_text(json.dumps(values))
    if (path, value) == ("latency_mean_s", True):
        value = 0
    assert of_history(read_history(file)) == []


def bad(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of bad input, after its exit code."""
    assert main(arguments) == 4
    caught = capsys.readouterr()
    assert caught.out == ""
    (line,) = caught.err.splitlines()
    return line


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what would be right; exit code 4."""
    two = ("--latency", "2s")
    assert "did you mean 'mpt7b'?" in bad(capsys, PUBLISHED, *ASK, "--model", "mtp7b", *two)
    assert "known: 128/1, 128/11" in bad(capsys, PUBLISHED, *ASK, "--input", "3", *two)
    for latency in ("2", "0s", "-1s", "1e400s", "inf", "s", "2 m"):
        assert "2s or 500ms" in bad(capsys, PUBLISHED, *ASK, f"--latency={latency}")
    for throughput in ("0", "x", "-5", "nan"):
        assert "such as 500" in bad(capsys, PUBLISHED, *ASK, f"--throughput={throughput}")
    assert "no such file or folder" in bad(capsys, str(tmp_path / "none"), *ASK, *two)
    assert "not allowed with" in bad(capsys, PUBLISHED, *ASK, *two, "--throughput", "5")
    assert "required" in bad(capsys, PUBLISHED, *ASK)
    assert "invalid int" in bad(capsys, PUBLISHED, *ASK, "--input", "x", *two)
    prices = tmp_path / "prices.yaml"
    for text, said in (
        ("usd_per_hour: 3", "must be a mapping"),
        ("usd_per_hour: {l4: -1}", "above zero"),
        ("usd_per_hour: {l4: 1e+308}", "is 1e+308; write US$ an hour, between 1e-06 and 1e+06"),
        ("usd_per_hour: {}", "usd_per_hour: is empty; write {device: price}"),
        ("eur: {a: 1}", "unknown key"),
        ("{}", "the key 'usd_per_hour' is missing"),
        ("usd_per_hour: {a100_80g: 1}", "did you mean 'a100_80gb'?"),
    ):
        prices.write_text(text)
        assert said in bad(capsys, PUBLISHED, *ASK, *two, "--price", str(prices))
    assert "no such file" in bad(capsys, PUBLISHED, *ASK, *two, "--price", str(tmp_path / "none"))


def test_cases_that_no_curve_has_are_counted_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those at a depth and ragged ones, of the model that is asked for; the answer stays."""
    cases = [record("m", "1xl4", batch, 1.0) for batch in (1, 2, 4)] + [record("other", "1xl4", 1, 1.0)]
    for case in (cases[1]["case"], cases[3]["case"]):
        case |= {"id": f"{case['id']}-at64", "depth": 64}
    cases[2]["case"]["id"] = cases[2]["case"]["id"].replace("-in512-", "-in256_512-")
    file = write(tmp_path / "a.json", cases)
    asked = ("--input", "512", "--output", "64", "--latency", "2s")
    assert main([str(file), "--model", "m", *asked]) == 0
    caught = capsys.readouterr()
    told = "are left out: calls of one input length on an empty cache are compared\n"
    assert caught.err == f"pick: 2 cases at a depth or with ragged lengths {told}"
    assert len(caught.out.splitlines()) == 2
    assert main([str(file), "--model", "other", *asked]) == 4
    assert "pick: 1 case at a depth or with ragged lengths is left out" in capsys.readouterr().err
    main([PUBLISHED, *ASK, "--latency", "2s"])
    assert capsys.readouterr().err == ""


def test_nothing_that_meets_the_target_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """And what comes nearest is told."""
    assert main([PUBLISHED, *ASK, "--latency", "100 ms"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("nothing meets a latency of 0.100 s\n")
    assert "1xa100_80gb hf_eager (published): the least latency is batch 1, 0.988 s, 64.78 tokens/s" in out


def test_the_command_needs_no_torch() -> None:
    """In a process of its own."""
    program = (
        "import sys\nfrom ci.pick.__main__ import main\n"
        f"code = main([{PUBLISHED!r}, *{ASK!r}, '--latency', '2s'])\n"
        "assert not {'torch', 'pytest', 'transformers'} & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


CURVE = st.dictionaries(st.sampled_from([1, 4, 16]), st.integers(1, 40).map(lambda n: n / 10), min_size=1)


@settings(deadline=None, derandomize=True)
@given(
    found=st.lists(st.tuples(CURVE, st.integers(1, 3)), min_size=1, max_size=5),
    price=st.none() | st.floats(0.1, 9),
    goal=SECONDS,
)
def test_answers_are_in_order_and_somebody_is_not_dominated(
    found: list[tuple[dict[int, float], int]], price: float | None, goal: float
) -> None:
    """The best first; nobody is dominated by who is dominated by them; the first has the most tokens/s."""
    asked = [curve(points, f"{n}xd{i}") for i, (points, n) in enumerate(found)]
    prices = {} if price is None else {f"d{i}": price for i in range(len(found))}
    answers = answer(asked, Target(latency_s=goal), prices)
    met = [one for one in answers if one.best is not None]
    speeds = [one.best.tokens_per_s for one in met if one.best is not None]
    assert speeds == sorted(speeds, reverse=True)
    assert answers[: len(met)] == met
    by_label = {one.label: one for one in met}
    for one in met:
        assert not any(one.label in by_label[rival].dominated_by for rival in one.dominated_by)
    assert not met or any(not one.dominated_by for one in met)
