"""Time against stored runs: which cases are slower, and how small a slowdown could have been seen.

The unit is a run, never a round: rounds of one process are not independent samples. A run counts with the
logarithm of each case's median. What all cases of a run share is one event for the whole run; each case's own
noise is one more chance of a false alarm. The two are estimated apart, and combined by the degrees of freedom
of F. E. Satterthwaite, Biometrics Bulletin 2(6), 1946.

Each case has its own noise, shrunk towards that of the others only as far as these agree (empirical Bayes).
The larger of own and pooled noise would hide every slowdown behind the noisiest case, and pooled noise
alone would let the noisiest case ring.

A case is slower where two things hold. The mean of its new runs is beyond Student's cut, divided among the
cases (Bonferroni). And each of its new runs lies further out than the tail of the stored runs explains, so
that a disturbance of one run in a hundred is not a slowdown.

A stored run that lies where the new ones do may show a second state of the case, such as memory laid out
otherwise, in which the new runs are all by chance. Such a case takes as many new runs as make that chance as
small as the cut's, by R. A. Fisher's exact test (J. R. Stat. Soc. 85(1), 1922).

The rule allows for systematic change that stored runs cannot show: a drift, as far as their order leaves room
for one, and another day where all stored runs are of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fixtures.core.result.spread import (
    LEAST_CASES,
    Each,
    Rows,
    Tail,
    drift,
    median,
    moderated,
    noisier_today,
    shared_by_run,
    winsorised,
)

DAY = 0.05  # of a log: by what one day may differ from another; stored runs of one day do not tell
_SPELL_S = 6 * 3600  # runs that are further apart are of another spell, or day
_ENOUGH_RUNS = 10  # of fewer, the furthest value of any case bounds the tail too
_SURE = 0.975  # of what is found, and of what is not there
_OWN, _TOGETHER = 0.6, 0.1  # of the false alarms allowed: cases by themselves, all of them together
_NOISY_TODAY = 1.5  # times as noisy as the stored runs
_ASKED_RUNS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50)


@dataclass(frozen=True)
class Decision:
    """Each case by row: its log ratio new / stored, and whether it is slower, faster, or surely no slower.

    `change` lies within +-`margin` of the truth. The rule finds a slowdown of `visible`, a log ratio, in 95
    of 100 candidates. `together` is the median change of all cases, where that by itself is slower.
    """

    change: Each
    margin: Each
    visible: Each
    is_slower: NDArray[np.bool_]
    is_faster: NDArray[np.bool_]
    is_no_slower: NDArray[np.bool_]
    together: float | None
    comparison: _Comparison

    @cached_property
    def hidden_by(self) -> tuple[str, ...]:
        """What hides smaller slowdowns of each case."""
        return self.comparison.hidden_by()

    @cached_property
    def runs_needed(self) -> tuple[int | None, ...]:
        """New runs that would find the threshold in each case; None where 50 are too few."""
        return self.comparison.runs_needed()

    @cached_property
    def is_red(self) -> NDArray[np.bool_]:
        """Slower by itself, or among cases that are slower together."""
        if self.together is None:
            return self.is_slower
        return np.asarray(self.is_slower | (self.change > self.together / 2))

    @cached_property
    def is_pass(self) -> NDArray[np.bool_]:
        """Surely no slower, and not red."""
        return self.is_no_slower & ~self.is_red


def decide(
    old: Rows,
    new: Rows,
    *,
    threshold: float,
    alpha: float,
    taken: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None,
) -> Decision:
    """Judge all cases of a candidate; rows are cases, columns are runs, the oldest first.

    Each case has LEAST_RUNS stored runs or more, and a new one; NaN stands where it is not in a run.
    `threshold` is the slowdown that matters, a log ratio; `alpha` the chance that a candidate in which
    nothing has changed has a red case; `taken` numbers the spells of the stored and the new runs (None: all
    are of one).
    """
    if taken is None:
        taken = np.zeros(old.shape[1], np.intp), np.zeros(new.shape[1], np.intp)
    has_any, new_has_any = (np.isfinite(side).any(axis=0) for side in (old, new))
    old, new = old[:, has_any], new[:, new_has_any]
    taken = taken[0][has_any], taken[1][new_has_any]
    one = _Comparison(old, new, taken, threshold, alpha)
    slower, faster = one.cut(one.new_counts, one.upper), one.cut(one.new_counts, one.lower)
    change, place = one.change, one.place
    at_least = np.maximum(slower.margin, threshold - slower.power - one.unseen)
    lowest, highest = np.nanmin(new, axis=1) - place, np.nanmax(new, axis=1) - place
    is_of_new_state = ~one.may_be_chance(one.in_state(lowest, highest), one.new_counts)
    is_slower = (change > at_least) & (lowest > slower.out) & is_of_new_state
    is_faster = (-change > at_least) & (-highest > faster.out) & is_of_new_state
    is_no_slower = (slower.visible <= threshold) & (change + one.unseen + slower.power < threshold)
    return Decision(
        change,
        slower.margin,
        slower.visible,
        is_slower,
        is_faster,
        is_no_slower,
        one.together(),
        one,
    )


def spells(old_s: Sequence[float], new_s: Sequence[float]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the spells in which runs were taken, by their times in s; a gap of six hours begins another."""
    times = np.array([*old_s, *new_s])
    order = np.argsort(times, kind="stable")
    number = np.empty(len(times), np.intp)
    number[order] = np.concatenate([[0], np.cumsum(np.diff(times[order]) > _SPELL_S)])
    return number[: len(old_s)], number[len(old_s) :]


@dataclass(frozen=True)
class _Cut:
    """What a change must exceed, what finding it adds, what each new run must exceed; what is visible."""

    margin: Each
    power: Each
    out: Each
    visible: Each


class _Comparison:
    """The noise of stored and new runs, and what follows from it for any number of new runs."""

    def __init__(
        self,
        old: Rows,
        new: Rows,
        taken: tuple[NDArray[np.intp], NDArray[np.intp]],
        threshold: float,
        alpha: float,
    ) -> None:
        cases, runs = old.shape
        self.threshold, self.alpha = threshold, alpha
        self.counts, self.new_counts = (np.isfinite(one).sum(axis=1).astype(float) for one in (old, new))
        self.days, self.new_days = len(set(taken[0].tolist())), len(set(taken[1].tolist()))
        is_of_one = len({*taken[0].tolist(), *taken[1].tolist()}) == 1
        self.is_by_day = self.days > 1
        self.is_new_day = self.days == 1 and not is_of_one
        self.runs = runs, new.shape[1]

        of_run, of_new = shared_by_run(old), shared_by_run(new)
        self.drift, may_drift = drift(of_run)
        distance = sum(self.runs) / 2  # from the middle of the stored runs to that of the new ones
        day = DAY if self.is_new_day else 0.0
        self.seen, self.unseen = day + self.drift * distance, day + may_drift * distance

        self.shared, self.shared_dof = 0.0, 1.0
        if cases < LEAST_CASES:  # what a run shares cannot be told from what is each case's own
            of_run, of_new = np.zeros_like(of_run), np.zeros_like(of_new)
        else:
            self.shared, self.shared_dof = self._pooled(of_run, of_new, taken[0])
        own = old - of_run
        place, variance, dof = winsorised(own)
        self.place = place + of_run.mean()
        self.away = own - place[:, None]  # of each stored run
        self.own, self.own_dof = moderated(variance, dof)
        self.change = np.nanmean(new, axis=1) - self.place
        error = np.sqrt(self.own * (1 / self.counts + 1 / self.new_counts))
        self.today = noisier_today(self.change, error, new - of_new, self.own)
        self.own_today = self.own * self.today**2

        self.one_run = np.sqrt(self.shared + self.own_today)

        far = own - median(own, axis=1)[:, None]
        far *= np.sqrt(self.counts / (self.counts - 1))[:, None]
        self.furthest = float(np.nanmax(np.abs(far)))
        in_sds = far / np.sqrt(self.own)[:, None]
        self.upper, self.lower = Tail.of(in_sds), Tail.of(-in_sds)

    def _pooled(self, of_run: Each, of_new: Each, taken: NDArray[np.intp]) -> tuple[float, float]:
        """The variance of what a run shares, or a day where there are several, and its degrees of freedom."""
        groups = [of_run, of_new]
        if self.is_by_day:
            groups = [np.array([of_run[taken == day].mean() for day in np.unique(taken)])]
        squares = sum(float(((one - one.mean()) ** 2).sum()) for one in groups)
        dof = float(sum(map(len, groups)) - len(groups))
        return squares / max(dof, 1.0), max(dof, 1.0)

    def cut(self, new_runs: Each, tail: Tail) -> _Cut:
        """With so many new runs of each case."""
        share = _OWN * self.alpha / len(self.own)
        counts, new_counts = self.counts, new_runs
        if self.is_by_day and len(self.own) < LEAST_CASES:  # each case's noise has its days' in it
            counts, new_counts = np.minimum(counts, self.days), np.minimum(new_runs, self.new_days)
        own = self.own / counts + self.own_today / new_counts
        common = self.shared * self._units(new_runs)
        total = common + own
        dof = total**2 / (common**2 / self.shared_dof + own**2 / self.own_dof)
        margin = self.seen + _student(dof, 1 - share) * np.sqrt(total)
        power = _student(dof, _SURE) * np.sqrt(total)
        one_run = self.one_run
        by_tail = {one: tail.beyond(share ** (1 / one)) for one in np.unique(new_runs)}
        out = one_run * np.array([by_tail[one] for one in new_runs])
        out = self.seen + np.where(self.counts < _ENOUGH_RUNS, np.maximum(out, self.furthest), out)
        least = _normal(_SURE ** (1 / new_runs)) * one_run
        visible = np.maximum(margin + power, out + least) + self.unseen
        in_state = self.in_state(self.threshold - one_run, self.threshold + one_run)
        beyond = np.where(in_state, self.away, -math.inf).max(axis=1) + one_run
        hidden = self.may_be_chance(in_state, new_runs)
        return _Cut(margin, power, out, np.where(hidden, np.maximum(visible, beyond), visible))

    def in_state(self, lowest: Each, highest: Each) -> NDArray[np.bool_]:
        """Which stored runs may be in the state of new ones between these logs, by one standard deviation."""
        low, high = lowest - self.one_run, highest + self.one_run
        return (self.away >= low[:, None]) & (self.away <= high[:, None])

    def may_be_chance(self, in_state: NDArray[np.bool_], new_runs: Each) -> NDArray[np.bool_]:
        """Whether so many new runs, all in a state that these stored runs are in, may be there by chance.

        That of all runs those in the state are drawn at random, and all new ones are among them.
        """
        from scipy.special import gammaln

        like = in_state.sum(axis=1)
        ways = gammaln(like + new_runs + 1) - gammaln(like + 1)
        of_all = gammaln(self.counts + new_runs + 1) - gammaln(self.counts + 1)
        return np.asarray((like > 0) & (ways - of_all > math.log(_OWN * self.alpha / len(self.own))))

    def _units(self, new_runs: Each) -> Each:
        """The variance of a difference of means of what is shared, in that of one run or day."""
        if self.is_by_day:
            return np.asarray(1 / self.days + 1 / np.minimum(new_runs, self.new_days))
        return np.asarray(1 / self.runs[0] + 1 / new_runs)

    def runs_needed(self) -> tuple[int | None, ...]:
        """New runs that would find the threshold in each case; None where 50 are too few."""
        needed: list[int | None] = [None] * len(self.own)
        for asked in reversed(_ASKED_RUNS):
            enough = self.cut(np.full(len(self.own), float(asked)), self.upper).visible <= self.threshold
            needed = [asked if one else before for one, before in zip(enough, needed, strict=True)]
        return tuple(needed)

    def hidden_by(self) -> tuple[str, ...]:
        """What hides smaller slowdowns of each case."""
        cut = self.cut(self.new_counts, self.upper)
        if self.is_new_day:
            return ("the stored runs are all of one day, and do not tell how days differ",) * len(self.own)
        if self.drift and 2 * self.unseen > self.threshold:
            said = f"the stored runs drift by {100 * math.expm1(self.drift):.2g} % a run"
            return (said,) * len(self.own)
        by_tail = cut.visible > cut.margin + cut.power + self.unseen
        of_run = self.shared * self._units(self.new_counts)
        of_case = self.own / self.counts + self.own_today / self.new_counts
        middle = float(np.median(self.own))
        if self.today > _NOISY_TODAY:
            said = f"the noise of this run, {self.today:.1f} times that of the stored ones"
            return (said,) * len(self.own)
        return tuple(
            "values far out in the stored runs"
            if far
            else "what all cases of a run share"
            if common > own
            else f"its own noise, {math.sqrt(variance / middle):.1f} times that of half of the cases"
            if variance > 4 * middle
            else "the noise of the stored runs"
            for far, common, own, variance in zip(by_tail, of_run, of_case, self.own, strict=True)
        )

    def together(self) -> float | None:
        """The median change of all cases, where it is slower by the noise of such a median.

        The median: a tenth of values that something disturbed would move a mean.
        """
        cases = len(self.own)
        if cases < LEAST_CASES:
            return None
        own = float((self.own / self.counts + self.own_today / self.new_counts).sum()) / cases**2
        own *= math.pi / 2  # of a median, against a mean
        error = np.sqrt(self.shared * self._units(np.array([float(self.runs[1])])) + own)
        dof = np.array([self.shared_dof])
        margin = self.seen + _student(dof, 1 - _TOGETHER * self.alpha) * error
        at_least = max(
            float(margin[0]), self.threshold - float((_student(dof, _SURE) * error)[0]) - self.unseen
        )
        change = float(np.median(self.change))
        return change if change > at_least else None


def _student(dof: Each, below: float) -> Each:
    """Quantile of Student's distribution."""
    from scipy.special import stdtrit  # scipy.stats has the same, and takes a second to import

    return np.asarray(stdtrit(dof, below))


def _normal(below: Each) -> Each:
    """Quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return np.asarray(ndtri(below))
