"""Criteria: what a response is held to, each a named function from (problem, rollout) to a finding with its evidence.

The package ships those of SHIPPED. A domain brings its own without touching the package: as entry points of the group
`libra_jax.criteria` in an installed package, or as a dictionary CRITERIA in a Python file. Both are the user's own
trusted code and run as they are; they run in worker processes, so that one that hangs or dies on a response costs that
finding alone. A checklist says which criteria decide.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import difflib
import importlib.metadata
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from libra_jax import config as configs
from libra_jax import records
from libra_jax.records import Problem, Rollout
from libra_jax.verify import batch, canonical, extract, steps, workers

GROUP = "libra_jax.criteria"  # of entry points
KEPT = 300  # characters of evidence
_ADDENDS = re.compile(r"(?<![\w.])\d[\d,.]{0,20} ([A-Za-z]{1,20}) ?[-+−] ?\d[\d,.]{0,20} ([A-Za-z]{1,20})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What a criterion finds: `passed` True, False, or None for undecided; `evidence` in words."""

    passed: bool | None
    evidence: str


Criterion = Callable[[Problem, Rollout], Finding]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checklist:
    """Which criteria decide: a response is correct when all `required` ones pass.

    One failed required criterion makes it incorrect, whatever is undecided beside it; where none fails and some are
    undecided, the response is undecided. `advisory` ones are evidence alone.

    Attributes:
      required: names of the criteria that decide.
      advisory: names of those that are evidence alone.
    """

    required: tuple[str, ...] = ("final_answer",)
    advisory: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.required:
            raise ValueError("Checklist.required is empty; expected the names of the criteria that decide")
        twice = [name for name, times in collections.Counter(self.names).items() if times > 1]
        if twice:
            raise ValueError(f"the criterion {twice[0]!r} is in the checklist twice; name it once, under required or "
                             "under advisory")

    @property
    def names(self) -> tuple[str, ...]:
        """All its criteria, in order."""
        return self.required + self.advisory

    @property
    def plain(self) -> bool:
        """Whether the final answer decides alone, as without any checklist."""
        return self.names == ("final_answer",)

    def decide(self, findings: Mapping[str, Finding]) -> tuple[bool | None, str]:
        """`correct` (None: undecided), and why: every finding with its evidence, in the checklist's order."""
        outcomes = [findings[name].passed for name in self.required]
        correct = False if False in outcomes else None if None in outcomes else True
        said = [f"{name} {outcome(findings[name].passed)}: {findings[name].evidence}" for name in self.required]
        said += [f"{name} (advisory) {outcome(findings[name].passed)}: {findings[name].evidence}"
                 for name in self.advisory]
        return correct, "; ".join(said)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """A record: what each criterion found of a rollout, by name, {"passed": ..., "evidence": ...}."""

    problem_id: str
    policy: str
    sample: int
    findings: dict


def outcome(passed: bool | None) -> str:
    """The word for it: "pass", "fail" or "undecided"."""
    return {True: "pass", False: "fail", None: "undecided"}[passed]


def final_answer(problem: Problem, rollout: Rollout, heavy: Callable[..., None] = lambda: None) -> Finding:
    """The final answer equals the problem's; `heavy` as in batch.answer, where computer algebra must be bounded."""
    if not problem.answer:
        return Finding(passed=None, evidence="the problem has no answer")
    decided, _, why = batch.answer({"text": rollout.text, "reference": problem.answer}, heavy)
    return Finding(passed=decided, evidence=why)


def step_arithmetic(problem: Problem, rollout: Rollout) -> Finding:
    """No equation of plain arithmetic is wrong (steps.py), else the first wrong one; undecided where there is none."""
    count = 0
    for step in steps.steps(rollout.text):
        if not step.correct:
            return Finding(passed=False, evidence=f"at character {step.start}: {step.text[:80]!r}, where one side is "
                                                  f"{_shown(step.left)} and the other {_shown(step.right)}")
        count += 1
    return Finding(passed=True if count else None, evidence=f"{count} equations hold" if count else "no equation")


def units(problem: Problem, rollout: Rollout) -> Finding:
    """The final answer names the reference's unit, where that names one, and no sum adds two kinds of measure.

    Undecided where neither says anything of units.
    """
    sums = 0
    for match in _ADDENDS.finditer(rollout.text):
        one, other = (canonical.unit(f"1 {word}") for word in match.groups())
        if one and other and one[1] and other[1]:
            if one[1] != other[1]:
                return Finding(passed=False, evidence=f"at character {match.start()}: {match[0]!r} adds {one[1]} and "
                                                      f"{other[1]}")
            sums += 1
    wanted = canonical.unit(problem.answer or "")
    if not wanted:
        return Finding(passed=True if sums else None, evidence=f"{sums} sums of one measure" if sums else
                       "no sum of measures, and the reference names no unit")
    found = canonical.unit(extract.extract(rollout.text) or "")
    return Finding(passed=bool(found and found[0] == wanted[0]),
                   evidence=f"the answer is in {found[0] if found else 'no unit'}, the reference in {wanted[0]}")


def answer_format(problem: Problem, rollout: Rollout) -> Finding:
    """The response ended by itself, and marks its final answer (extract.py)."""
    if rollout.finish != "stop":
        return Finding(passed=False, evidence=f"cut off after {rollout.num_tokens} tokens")
    answer = extract.extract(rollout.text)
    return Finding(passed=answer is not None, evidence="no final answer is marked" if answer is None else
                   f"the final answer {answer[:80]!r} is marked")


SHIPPED: dict[str, Criterion] = {"final_answer": final_answer, "step_arithmetic": step_arithmetic, "units": units,
                                 "format": answer_format}


def load(names: Iterable[str], file: str = "") -> dict[str, Criterion]:
    """The criteria of these names: those that ship, of entry points, and of CRITERIA in `file`, which is run.

    ValueError for a name that none has (naming the nearest), or that two have; for a file without CRITERIA, and for
    what is not a function.
    """
    installed = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    own = _of_file(file) if file else {}
    places: list[tuple[str, Mapping[str, Any]]] = [("the package", SHIPPED), ("entry points", installed), (file, own)]
    known = {name for _, some in places for name in some}
    found: dict[str, Criterion] = {}
    for name in names:
        where = [(place, some[name]) for place, some in places if name in some]
        if not where:
            near = difflib.get_close_matches(name, known, 1, 0)
            raise ValueError(f"no criterion {name!r}; the nearest is {near[0]!r} of {', '.join(sorted(known))}")
        if len(where) > 1:
            raise ValueError(f"the criterion {name!r} comes from {' and from '.join(place for place, _ in where)}; "
                             "give yours another name")
        found[name] = _of_entry_point(where[0][1]) if name in installed else where[0][1]
        if not callable(found[name]):
            raise ValueError(f"the criterion {name!r} is {type(found[name]).__name__}; expected a function of "
                             "(problem, rollout)")
    if file and not own.keys() & found.keys():
        raise ValueError(f"--config.criteria={file} brings {', '.join(own)}, and the checklist names none of them; "
                         "give --config.checklist.required=ONE,TWO or --config.checklist.advisory=THREE")
    return found


def _of_entry_point(point: importlib.metadata.EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise ValueError(f"the criterion {point.name!r} is {point.value} of an installed package, which does not load: "
                         f"{type(error).__name__}: {error}") from error


def _of_file(file: str) -> dict[str, Any]:
    own = getattr(configs.execute(file, "--config.criteria"), "CRITERIA", None)
    if not isinstance(own, dict) or not own:
        raise ValueError(f"--config.criteria={file}: CRITERIA is {own!r:.60}; expected a dictionary from names to "
                         "functions of (problem, rollout)")
    return own


def check(pairs: Iterable[tuple[Problem, Rollout]], checklist: Checklist, *, file: str = "",
          num_workers: int | None = None, timeout: float = 5.0) -> Iterator[dict[str, Finding]]:
    """Streams the findings of each (problem, rollout), by name, in their order; ends its workers.

    Each criterion has `timeout` seconds and workers.MEMORY bytes a response, beyond which its finding is undecided; so
    it is where a criterion raises, dies, or returns no Finding. Raises ValueError as `load`.
    """
    names = checklist.names
    load(names, file)  # says what is wrong before any process starts
    items = ({"name": name, "problem": problem_line, "rollout": rollout_line}
             for problem, rollout in pairs
             for problem_line, rollout_line in [(records.to_json(problem), records.to_json(rollout))]
             for name in names)
    with batch.Pool(num_workers=num_workers, timeout=timeout, task=("criteria", json.dumps(names), file)) as pool, \
            contextlib.closing(pool.stream(items)) as answers:
        findings: dict[str, Finding] = {}
        for item, answer in answers:
            findings[item["name"]] = _finding(answer, timeout)
            if len(findings) == len(names):
                yield findings
                findings = {}


def decide(rollouts: Iterable[Rollout], problems: Mapping[str, Problem], checklist: Checklist, *, file: str = "",
           num_workers: int | None = None, timeout: float = 5.0
           ) -> Iterator[tuple[Rollout, bool | None, str, dict[str, Finding]]]:
    """Streams each rollout with `correct` (None: undecided), why, and the findings (none while `checklist.plain`).

    A rollout of none of the `problems` (by id) is undecided. Else as `check`.
    """
    waiting: collections.deque[tuple[Rollout, Problem | None]] = collections.deque()

    def pairs() -> Iterator[tuple[Problem, Rollout]]:
        for each in rollouts:
            waiting.append((each, problems.get(each.problem_id)))
            yield waiting[-1][1] or Problem(id=each.problem_id, source="", question=""), each

    bounds = {"num_workers": num_workers, "timeout": timeout}
    if checklist.plain:
        # Without a reference there is nothing to read in the text, either.
        texts = ((each.text, problem.answer) if problem.answer else ("", "") for problem, each in pairs())
        found = ((each.correct, each.why, {}) for each in batch.decide(texts, **bounds))
    else:
        found = ((*checklist.decide(findings), findings)
                 for findings in check(pairs(), checklist, file=file, **bounds))
    for correct, why, findings in found:
        rollout, problem = waiting.popleft()
        if problem is None or (checklist.plain and not problem.answer):
            what = "is not among the problems" if problem is None else "has no answer"
            correct, why = None, f"undecided: problem {rollout.problem_id!r} {what}"
        yield rollout, correct, why, findings


def checked(rollout: Rollout, findings: Mapping[str, Finding]) -> Checked:
    """The record of a rollout's findings."""
    return Checked(problem_id=rollout.problem_id, policy=rollout.policy, sample=rollout.sample,
                   findings={name: dataclasses.asdict(finding) for name, finding in findings.items()})


def count(many: Iterable[Checked]) -> dict[str, dict[str, int]]:
    """How many rollouts pass, fail and are undecided, by criterion."""
    counts: dict[str, collections.Counter] = {}
    for each in many:
        for name, finding in each.findings.items():
            counts.setdefault(name, collections.Counter())[outcome(finding["passed"])] += 1
    return {name: {word: some[word] for word in ("pass", "fail", "undecided")} for name, some in counts.items()}


def answerer(names: str, file: str) -> Callable[[dict[str, str], Callable[..., None]], list]:
    """The worker's part: what answers one item with [passed, evidence]."""
    functions = load(json.loads(names), file)

    def answer(item: dict[str, str], heavy: Callable[..., None]) -> list:
        problem, rollout = Problem(**json.loads(item["problem"])), Rollout(**json.loads(item["rollout"]))
        function = functions[item["name"]]
        try:
            if function is final_answer:
                found = final_answer(problem, rollout, heavy)
            else:
                if function not in SHIPPED.values() or len(rollout.text) > batch.HEAVY:
                    heavy(algebra=False)
                found = function(problem, rollout)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            return [None, f"raised {type(error).__name__}: {error}"[:KEPT]]
        if not isinstance(found, Finding) or not isinstance(found.passed, bool | None):
            return [None, f"returned {found!r:.100}; expected a Finding that passed True, False or None"]
        return [found.passed, str(found.evidence)[:KEPT]]

    return answer


def _finding(answer: Any, timeout: float) -> Finding:
    if isinstance(answer, str):
        why = {workers.LATE: f"no decision within {timeout:g} s", workers.BROKEN: "ran out of memory or crashed"}
        return Finding(passed=None, evidence=why[answer])
    passed, evidence = answer
    return Finding(passed=passed, evidence=evidence.encode("utf-8", "replace").decode())


def _shown(value: Fraction) -> str:
    size = value.numerator.bit_length() + value.denominator.bit_length()
    return str(value) if size <= 200 else "a number of more than 30 digits"  # which Python may refuse to write
