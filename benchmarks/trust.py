"""Trust: konsil's rule and its rivals against every attack, in the simulator, in one process.

    python -m benchmarks.trust main --seeds 0-4          the main setting, all rules
    python -m benchmarks.trust minority --seeds 0-4      three hospitals hold the rare classes
    python -m benchmarks.trust grid --seeds 0-1          graphs × alpha × share of attackers
    python -m benchmarks.trust main --rules evidence --attacks min_max,adaptive --data digits

Regret is the oracle's balanced accuracy minus the rule's, seed by seed; the oracle is told who is
Byzantine. Constants are chosen on seeds from 100 on and reported on others. Tables go to stdout,
all figures to `--out` as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import torch

from benchmarks.trust_runs import MODELS, Outcome, as_json, minority_outcome, outcome, scenario
from konsil.simulations.sim.attacks import ATTACKS
from konsil.simulations.sim.scenario import Topology

if TYPE_CHECKING:
    from collections.abc import Iterable

RIVALS = (
    "mean", "median", "trimmed_mean", "krum", "nnm_trimmed_mean", "clipped_gossip", "balance",
)  # fmt: skip
RULES = ("local_only", *RIVALS, "evidence")
MINORITY_ATTACKS = ("", "min_max", "sign_flip")
GRAPHS = {
    "ring_chords": Topology(kind="ring_chords"),
    "small_world": Topology(kind="small_world", degree=6),
    "erdos_renyi": Topology(kind="erdos_renyi", degree=6),
    "complete": Topology(kind="complete"),
}
ALPHAS = (0.1, 0.5, 10.0)
FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.4)
ANY = "sign_flip"
"""The attack under which the oracle and learning alone are run: neither hears a Byzantine node."""


@cache
def reference(dataset: str, rule: str, seed: int, *, attacked: bool) -> Outcome:
    """The oracle's outcome, or that of learning alone, in the main setting."""
    return outcome(scenario(dataset, ANY if attacked else "", rule, seed))


def main_setting(wish: argparse.Namespace) -> list[dict]:
    """One row for each data set, rule and attack, over all seeds."""
    rows = []
    for dataset in wish.data:
        for rule in wish.rules:
            for attack in wish.attacks:
                runs = [
                    (
                        outcome(scenario(dataset, attack, rule, seed)),
                        reference(dataset, "oracle", seed, attacked=bool(attack)),
                        reference(dataset, "local_only", seed, attacked=bool(attack)),
                    )
                    for seed in wish.seeds
                ]
                rows.append(_row(dataset, rule, attack, runs))
                _tell(rows[-1])
    return rows


def _row(dataset: str, rule: str, attack: str, runs: list[tuple[Outcome, ...]]) -> dict:
    regrets = [best.mean - one.mean for one, best, _ in runs]
    return {
        "data": dataset, "rule": rule, "attack": attack or "none",
        "mean": fmean(one.mean for one, _, _ in runs),
        "regret": fmean(regrets), "error": _error(regrets),
        "worst": min(one.worst for one, _, _ in runs),
        "over_local": min(one.worst - floor.worst for one, _, floor in runs),
        "attackers": fmean(one.attackers for one, _, _ in runs),
        "honest": fmean(one.honest for one, _, _ in runs),
        "obeyed": fmean(one.obeyed for one, _, _ in runs),
        "runs": [as_json(one) for one, _, _ in runs],
    }  # fmt: skip


def minority(wish: argparse.Namespace) -> list[dict]:
    """One row for each rule and attack; 25 % are Byzantine, the majority's figures."""
    rows = []
    for attack in MINORITY_ATTACKS:
        best = [_few("oracle", attack, seed) for seed in wish.seeds]
        for rule in wish.rules:
            runs = [_few(rule, attack, seed) for seed in wish.seeds]
            rows.append(
                {
                    "data": "digits, minority", "rule": rule, "attack": attack or "none",
                    "mean": fmean(one.mean for one in runs),
                    "regret": fmean(o.mean - one.mean for o, one in zip(best, runs, strict=True)),
                    "rare": fmean(one.rare for one in runs),
                    "rare_by_oracle": fmean(one.rare for one in runs) / fmean(o.rare for o in best),
                    "ratio": fmean(one.ratio for one in runs),
                    "attackers": fmean(one.attackers for one in runs),
                    "runs": [as_json(one) for one in runs],
                }
            )  # fmt: skip
            _tell(rows[-1])
    return rows


def _few(rule: str, attack: str, seed: int) -> Outcome:
    return minority_outcome(scenario("digits", attack, rule, seed, fraction=0.25))


def grid(wish: argparse.Namespace) -> list[dict]:
    """One row for each cell: konsil's rule against learning alone, worst honest node."""
    rows = []
    for dataset in wish.data:
        for cell in _cells(wish.attacks):
            pairs = [
                (_in_cell(dataset, cell, "evidence", seed), _alone(dataset, cell[:3], seed))
                for seed in wish.seeds
            ]
            name, alpha, fraction, attack = cell
            rows.append(
                {
                    "data": dataset, "rule": f"{name} {alpha:g} {fraction:.0%}",
                    "attack": attack or "none",
                    "mean": fmean(one.mean for one, _ in pairs),
                    "worst": min(one.worst for one, _ in pairs),
                    "over_local": min(one.worst - floor.worst for one, floor in pairs),
                    "runs": [as_json(one) for one, _ in pairs],
                }
            )  # fmt: skip
            _tell(rows[-1])
    return rows


def _in_cell(dataset: str, cell: tuple[str, float, float, str], rule: str, seed: int) -> Outcome:
    name, alpha, fraction, attack = cell
    graph = GRAPHS[name]
    return outcome(
        scenario(dataset, attack, rule, seed, fraction=fraction, topology=graph, alpha=alpha)
    )


@cache
def _alone(dataset: str, cell: tuple[str, float, float], seed: int) -> Outcome:
    return _in_cell(dataset, (*cell, ANY if cell[2] else ""), "local_only", seed)


def _cells(attacks: Iterable[str]) -> Iterable[tuple[str, float, float, str]]:
    for name in GRAPHS:
        for alpha in ALPHAS:
            for fraction in FRACTIONS:
                for attack in attacks if fraction else [""]:
                    if attack or not fraction:
                        yield name, alpha, fraction, attack


def _error(values: list[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _tell(row: dict) -> None:
    """One line of the table, as soon as it is known."""
    figures = " ".join(
        f"{name} {value:+.4f}" if name == "regret" else f"{name} {value:.3f}"
        for name, value in row.items()
        if isinstance(value, float) and not math.isnan(value)
    )
    print(f"{row['data']:16} {row['rule']:20} {row['attack']:18} {figures}", flush=True)


def _summary(rows: list[dict]) -> None:
    """The largest regret of each rule, backdoors aside, and the cell that is worst off."""
    for data, rule in dict.fromkeys((row["data"], row["rule"]) for row in rows):
        mine = [row for row in rows if (row["data"], row["rule"]) == (data, rule)]
        most = max((r for r in mine if r["attack"] != "backdoor"), key=lambda r: r["regret"])
        print(f"{data} {rule}: largest regret {most['regret']:.4f} ({most['attack']})")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trust", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    tables = {"main": main_setting, "minority": minority, "grid": grid}
    parser.add_argument("table", choices=tables)
    parser.add_argument("--seeds", default="100-102", type=_span, help="first and last, as 0-4")
    parser.add_argument("--data", default=",".join(MODELS), type=_words)
    parser.add_argument("--rules", default=",".join(RULES), type=_words)
    parser.add_argument("--attacks", default=",".join(["none", *ATTACKS]), type=_words)
    parser.add_argument("--out", type=Path, help="a file for the figures as JSON")
    wish = parser.parse_args()
    wish.attacks = ["" if name == "none" else name for name in wish.attacks]
    torch.set_num_threads(1)
    rows = tables[wish.table](wish)
    if wish.table == "main":
        _summary(rows)
    if wish.out:
        wish.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _span(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _words(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
