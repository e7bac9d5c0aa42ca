"""A question, and rows that answer it: points of machines, what they cost, whether they meet it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ci.pick.answers import usd_per_million_tokens
from fixtures.core.estimate.estimate import Estimate
from fixtures.core.result.metrics import output_tokens_per_s
from fixtures.core.spec.case import HardwareSpec, Point

MEETS, ESTIMATED, MAY, NOT = "meets", "meets, estimated", "may meet", "does not meet"
CLASSES = (MEETS, ESTIMATED, MAY, NOT)
SOURCE = "estimated"  # beside "measured" and "published"
RANKS = ("tokens", "device", "cost", "fewest")


@dataclass(frozen=True)
class Question:
    """What is asked: at most these seconds, at least these output tokens/s; all None: that it fits."""

    latency_s: float | None = None
    tokens_per_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    rank: str = "tokens"
    batches: tuple[int, ...] = ()

    @property
    def is_throughput(self) -> bool:
        """Whether more of it is better."""
        return self.tokens_per_s is not None


@dataclass(frozen=True)
class Row:
    """A point of a machine, measured where `estimate` is None; `low_s` and `high_s` are of the latency.

    `number` is of the devices that are paid for: the ranks of one CPU are one. `usd_per_hour` is the price of
    one, `joules` what a measured call took an output token, by the device's counter. A measured row has the
    `source` and the id of its case.
    """

    verdict: str
    hardware: HardwareSpec
    devices: int
    engine: str
    point: Point
    latency_s: float
    low_s: float
    high_s: float
    ttft_s: float | None
    tpot_s: float | None
    estimate: Estimate | None = None
    number: int = 1
    usd_per_hour: float | None = None
    joules: float | None = None
    measure: tuple[str, ...] = ()
    source: str = SOURCE
    case_id: str | None = None

    @property
    def label(self) -> str:
        """As in a case id."""
        return f"{self.devices}x{self.hardware.name}"

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all sequences."""
        return output_tokens_per_s(self.point, self.latency_s)

    @property
    def usd_per_million_tokens(self) -> float | None:
        """US$ a million output tokens, all of the call's time paid by them; None without a price."""
        price = self.usd_per_hour
        return None if price is None else usd_per_million_tokens(price, self.number, self.tokens_per_s)

    @property
    def usd_at_most(self) -> float | None:
        """The same at the upper end of the latency."""
        cost = self.usd_per_million_tokens
        return None if cost is None else cost * self.high_s / self.latency_s

    @property
    def usd_in_and_out(self) -> tuple[float, float] | None:
        """US$ a million input tokens, which pay for prefill, and a million output tokens, for the rest."""
        if self.usd_per_hour is None or self.ttft_s is None:
            return None
        a_second, point = self.usd_per_hour * self.number / 3600, self.point
        first = a_second * self.ttft_s / (point.batch_size * point.input_len) * 1e6
        rest = a_second * (self.latency_s - self.ttft_s) / (point.batch_size * point.output_len) * 1e6
        return first, rest

    @property
    def joules_are(self) -> str:
        """Whether they were counted or are a bound."""
        return "measured" if self.joules is not None else "at most, by TDP"

    @property
    def joules_per_1000_tokens(self) -> float | None:
        """J a thousand output tokens: what was counted, else at most what the devices' TDP allows.

        Bound: `TDP x devices x the upper end of the latency / (batch x output length)`. None without a TDP.
        """
        if self.joules is not None:
            return 1000 * self.joules
        if self.hardware.tdp_w is None:
            return None
        tokens = self.point.batch_size * self.point.output_len
        return 1000 * self.hardware.tdp_w * self.number * self.high_s / tokens

    def as_dict(self) -> dict[str, Any]:
        """For programs, in SI units."""
        joules, shares = self.joules_per_1000_tokens, self.usd_in_and_out
        return {
            "verdict": self.verdict,
            "hardware": self.label,
            "devices": self.devices,
            "engine": self.engine,
            "source": self.source,
            "case": self.case_id,
            "batch_size": self.point.batch_size,
            "input_len": self.point.input_len,
            "output_len": self.point.output_len,
            "latency_s": self.latency_s,
            "output_tokens_per_s": self.tokens_per_s,
            "output_tokens_per_s_per_device": self.tokens_per_s / self.devices,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "usd_per_million_output_tokens": self.usd_per_million_tokens,
            "usd_per_million_output_tokens_at_most": self.usd_at_most,
            "usd_per_million_input_tokens_of_prefill": shares and shares[0],
            "usd_per_million_output_tokens_of_decode": shares and shares[1],
            "joules_per_1000_output_tokens": joules,
            "joules_are": None if joules is None else self.joules_are,
            "estimate": self.estimate and self.estimate.as_dict(),
            "measure": list(self.measure),
        }


@dataclass(frozen=True)
class Found:
    """Rows, the best first, and (machine, reason) of what is not estimated."""

    rows: tuple[Row, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For programs, in SI units."""
        return {
            "rows": [row.as_dict() for row in self.rows],
            "refused": [{"machine": machine, "reason": reason} for machine, reason in self.refused],
        }


def rank(row: Row, question: Question) -> tuple[float, ...]:
    """What is to be small inside a class."""
    speed = row.latency_s if question.is_throughput else -row.tokens_per_s
    if row.verdict == NOT:
        return (_off(row, question),)
    first = {
        "tokens": 0.0,
        "device": -row.tokens_per_s / row.devices,
        "cost": row.usd_per_million_tokens if row.usd_per_million_tokens is not None else float("inf"),
        "fewest": float(row.devices),
    }[question.rank]
    return first, speed


def has_figures(question: Question, ttft_s: float | None, tpot_s: float | None) -> bool:
    """Whether a measured point has the figures that are asked for: many have no time to the first token."""
    lacks_first = question.ttft_s is not None and ttft_s is None
    return not lacks_first and not (question.tpot_s is not None and tpot_s is None)


def _off(row: Row, question: Question) -> float:
    """How far a row is from what is asked: more is farther."""
    for asked, got in (
        (question.latency_s, row.latency_s),
        (question.ttft_s, row.ttft_s),
        (question.tpot_s, row.tpot_s),
    ):
        if asked is not None and got is not None:
            return got / asked
    return question.tokens_per_s / row.tokens_per_s if question.tokens_per_s else 0.0


def meets(
    question: Question, tokens: int, latency_s: float, ttft_s: float | None, tpot_s: float | None
) -> bool:
    """Whether a call of so many output tokens in these seconds is what is asked."""
    return (
        (question.latency_s is None or latency_s <= question.latency_s)
        and (question.tokens_per_s is None or tokens / latency_s >= question.tokens_per_s)
        and (question.ttft_s is None or (ttft_s is not None and ttft_s <= question.ttft_s))
        and (question.tpot_s is None or (tpot_s is not None and tpot_s <= question.tpot_s))
    )
