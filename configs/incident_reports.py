"""A domain that is not mathematics: incident reports held to a handbook, and judged. One file brings all of it.

    python configs/incident_reports.py runs/incidents
    libra verify --workdir=runs/incidents/verify --config=configs/incident_reports.py \
        --config.problems=runs/incidents/problems.jsonl --config.rollouts=runs/incidents/rollouts.jsonl

CRITERIA are the handbook's rules, get_config() the checklist that combines them, TEMPLATE what a judge is asked
(`libra judge --config.template=configs/incident_reports.py`). The first command makes incidents, and reports by two
imagined writers whose slips are drawn by lot; for your own domain give your own problems and rollouts.

Hardware: any. Time and score: four seconds; what the rules find, and baselines on the bench made of it, are in
docs/criteria.md.
"""

from __future__ import annotations

import pathlib
import random
import re
import sys

from libra_jax import records
from libra_jax.judging.prompt import Template
from libra_jax.records import Problem, Rollout
from libra_jax.stages import verify
from libra_jax.verify.criteria import Checklist, Finding

FIELDS = ("Service", "Severity", "Detected", "Mitigated", "Resolved", "Duration", "Lead", "Summary")
HANDBOOK = """1. One line each, in the order Service, Severity, Detected, Mitigated, Resolved, Duration, Lead, Summary.
2. Severity is 1 from 1,000 users affected, 2 from 100, else 3.
3. Times are those of the incident, as hours and minutes, in the order in which they happened.
4. Duration is in minutes, from detected to resolved.
5. "Actions:" and then one line each, starting with a dash; every action names its owner and its due date.
6. A report blames nobody."""
_FIELD = re.compile(r"^([A-Z][a-z]+): (.{1,200})$", re.MULTILINE)
_ACTION = re.compile(r"^- (.{1,300})$", re.MULTILINE)


def complete(problem: Problem, rollout: Rollout) -> Finding:
    """Every field is there, in the handbook's order."""
    there = [name for name, _ in _FIELD.findall(rollout.text) if name in FIELDS]
    missing = [name for name in FIELDS if name not in there]
    if missing:
        return Finding(passed=False, evidence=f"missing: {', '.join(missing)}")
    return Finding(passed=there == list(FIELDS), evidence=f"the order is {', '.join(there)}")


def severity(problem: Problem, rollout: Rollout) -> Finding:
    """The severity is the one that the number of users asks for."""
    users = int(_fields(problem.question)["Users"].replace(",", ""))
    right = "1" if users >= 1000 else "2" if users >= 100 else "3"
    given = _fields(rollout.text).get("Severity", "not given")
    return Finding(passed=given == right, evidence=f"{given} for {users:,} users, which are {right}")


def timeline(problem: Problem, rollout: Rollout) -> Finding:
    """The three times are those of the incident."""
    facts, given = _fields(problem.question), _fields(rollout.text)
    wrong = [name for name in ("Detected", "Mitigated", "Resolved") if given.get(name) != facts[name]]
    said = ", ".join(f"{name} {given.get(name, 'not given')} and not {facts[name]}" for name in wrong)
    return Finding(passed=not wrong, evidence=said or "all three times are the incident's")


def duration(problem: Problem, rollout: Rollout) -> Finding:
    """The minutes from detected to resolved; undecided where they are told in other words."""
    facts, given = _fields(problem.question), _fields(rollout.text).get("Duration", "")
    right = _minutes(facts["Resolved"]) - _minutes(facts["Detected"])
    match = re.fullmatch(r"(\d{1,4}) minutes", given)
    if not match:
        return Finding(passed=None if given else False, evidence=f"{given or 'nothing'!r} is no number of minutes")
    return Finding(passed=int(match[1]) == right, evidence=f"{match[1]} minutes, of {right}")


def owned(problem: Problem, rollout: Rollout) -> Finding:
    """There are actions, and each names an owner and a due date."""
    actions = _ACTION.findall(rollout.text)
    bare = [each for each in actions if not re.search(r"\(owner: [A-Z][a-z]+, due: \d{4}-\d\d-\d\d\)$", each)]
    if bare:
        return Finding(passed=False, evidence=f"no owner and due date: {bare[0]!r}")
    return Finding(passed=bool(actions), evidence=f"{len(actions)} actions, each with an owner and a due date")


def blameless(problem: Problem, rollout: Rollout) -> Finding:
    """No word of blame."""
    match = re.search(r"\b(?:fault|blame|careless|stupid)\b", rollout.text, re.IGNORECASE)
    return Finding(passed=match is None, evidence=f"{match[0]!r} is said" if match else "no word of blame")


CRITERIA = {"complete": complete, "severity": severity, "timeline": timeline, "duration": duration, "owned": owned,
            "blameless": blameless}

TEMPLATE = Template(
    judge=("Below are an incident with the handbook for its report, and a report. Decide whether the report follows "
           "every rule of the handbook that can be checked. Go through the rules one by one, work out severity and "
           "duration yourself, and trust nothing that the report says of itself.\n\n"
           "# Incident and handbook\n{question}\n\n# Report\n{response}\n\n# End of report\n"
           "End with one line: \"Verdict: correct\" if the report follows every rule, else \"Verdict: incorrect\"."),
    solve="{question}",
)


def get_config() -> verify.Config:
    """The verify stage's config: which rules decide, and which are advice; paths come from the command line."""
    return verify.Config(criteria=__file__, checklist=Checklist(
        required=("complete", "severity", "timeline", "duration", "owned"), advisory=("blameless",)))


def incident(number: int) -> Problem:
    """An incident with the handbook as its question; nobody has an answer to compare with."""
    draw = random.Random(f"incident {number}")
    start = draw.randrange(6 * 60, 20 * 60)
    mitigated = start + draw.randrange(5, 90)
    times = [_clock(minute) for minute in (start, mitigated, mitigated + draw.randrange(5, 90))]
    facts = {"Service": draw.choice(("checkout", "search", "login", "mail", "billing", "maps")),
             "Users": f"{draw.choice((draw.randrange(5, 99), draw.randrange(100, 999), draw.randrange(1000, 9000))):,}",
             "Detected": times[0], "Mitigated": times[1], "Resolved": times[2],
             "Lead": draw.choice(("Ada", "Grace", "Edsger", "Barbara", "Tony"))}
    lines = "\n".join(f"{name}: {value}" for name, value in facts.items())
    return Problem(id=f"incident-{number:03d}", source="incidents", subject=facts["Service"],
                   question=f"Write the report of this incident, by the handbook.\n\n{lines}\n\nHandbook\n{HANDBOOK}")


def report(problem: Problem, policy: str, sample: int, slip_rate: float) -> Rollout:
    """A report by an imagined writer, with one slip at most."""
    draw = random.Random(f"{problem.id} {policy} {sample}")
    facts = _fields(problem.question)
    users = int(facts["Users"].replace(",", ""))
    minutes = _minutes(facts["Resolved"]) - _minutes(facts["Detected"])
    given = {name: facts.get(name, "") for name in FIELDS} | {
        "Severity": "1" if users >= 1000 else "2" if users >= 100 else "3", "Duration": f"{minutes} minutes",
        "Summary": f"{draw.choice(('A full disk', 'An expired certificate', 'A bad deploy'))} took "
                   f"{facts['Service']} down for {users:,} users."}
    actions = [f"- {what} (owner: {draw.choice(('Ada', 'Grace', 'Tony'))}, due: 2025-0{draw.randrange(1, 9)}-15)"
               for what in draw.sample(("Add an alarm", "Write a runbook", "Test the rollback", "Raise the quota"), 2)]
    slip = draw.choice(("severity", "duration", "times", "field", "owner", "words"))
    slip = slip if draw.random() < slip_rate else ""
    if slip == "severity":
        given["Severity"] = draw.choice([each for each in "123" if each != given["Severity"]])
    elif slip == "duration":
        given["Duration"] = f"{_minutes(facts['Mitigated']) - _minutes(facts['Detected'])} minutes"
    elif slip == "times":
        given["Mitigated"], given["Resolved"] = given["Resolved"], given["Mitigated"]
    elif slip == "field":
        del given[draw.choice(("Lead", "Summary", "Severity"))]
    elif slip == "owner":
        actions[-1] = actions[-1].partition(" (")[0]
    elif slip == "words":
        given["Duration"] = f"{minutes // 60} h {minutes % 60} min"
    if draw.random() < 0.1:
        given["Summary"] = given.get("Summary", "") + f" It was the fault of {facts['Lead']}."
    text = "\n".join([*(f"{name}: {value}" for name, value in given.items()), "Actions:", *actions])
    return Rollout(problem_id=problem.id, policy=policy, sample=sample, text=text, num_tokens=len(text.split()),
                   finish="stop")


def _fields(text: str) -> dict[str, str]:
    return dict(reversed(_FIELD.findall(text)))


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def write(folder: pathlib.Path, num_incidents: int = 60) -> None:
    """Writes problems.jsonl and rollouts.jsonl: four reports by each of two writers to every incident."""
    problems = [incident(number) for number in range(num_incidents)]
    records.write(folder / "problems.jsonl", problems)
    records.write(folder / "rollouts.jsonl", [report(problem, policy, sample, rate) for problem in problems
                                              for policy, rate in (("careful", 0.35), ("hasty", 0.7))
                                              for sample in range(4)])


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
