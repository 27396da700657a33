"""Orders responses to problems without answers by a judge: rollouts -> judgements -> preference pairs for `libra dpo`.

The best and the worst response of a problem by score (share of votes for "correct") make one pair; problems whose
responses all score alike make none and are counted.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.judging import reward
from libra_jax.records import Judgement, JudgingExample, PreferencePair, Problem, Rollout
from libra_jax.stages import judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    problems: JSON lines of Problem; answers, where there are some, are not looked at.
    rollouts: JSON lines of Rollout, several for each problem.
    judge: how the responses are judged; its `examples` is set by this stage.
    """

    problems: str = ""
    rollouts: str = ""
    judge: judge.Config = judge.Config()


def unlabelled(problems: Mapping[str, Problem], rollouts: Iterable[Rollout]) -> list[JudgingExample]:
    """Judging questions without a known answer, one for each rollout that stopped by itself.

    ValueError for a rollout of an unknown problem.
    """
    rollouts = list(rollouts)
    unknown = next((each.problem_id for each in rollouts if each.problem_id not in problems), None)
    if unknown is not None:
        raise ValueError(f"a rollout is of problem {unknown!r}, which is not among the {len(problems)} problems; give "
                         "the file that the policy answered")
    return [
        JudgingExample(
            id=f"{each.problem_id}/{each.policy}/{each.sample}",
            problem_id=each.problem_id,
            question=problems[each.problem_id].question,
            response=each.text,
            correct=None,
            policy=each.policy,
            source=problems[each.problem_id].source,
        )
        for each in rollouts
        if each.finish == "stop"
    ]


def pairs(examples: Sequence[JudgingExample], judgements: Iterable[Judgement]) -> list[PreferencePair]:
    """At most one pair a problem, its best against its worst response; ties go to the earlier response.

    Responses whose votes are all unparsed have no score and are left out.
    """
    votes = collections.defaultdict(list)
    for judgement in judgements:
        votes[judgement.example_id].append(judgement)
    scored = collections.defaultdict(list)
    for example in examples:
        score = reward.score(votes[example.id])
        if score is not None:
            scored[example.problem_id].append((score, example))
    result = []
    for problem_id, some in scored.items():
        (high, best), (low, worst) = max(some, key=lambda pair: pair[0]), min(some, key=lambda pair: pair[0])
        if high > low:
            result.append(PreferencePair(problem_id=problem_id, question=best.question, chosen=best.response,
                                         rejected=worst.response, chosen_score=high, rejected_score=low))
    return result


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes examples.jsonl, judgements.jsonl (by the judge stage, which resumes) and pairs.jsonl to `workdir`."""
    runs.need(config, "problems", "rollouts")
    problems = {problem.id: problem for problem in records.read(config.problems, Problem)}
    examples = unlabelled(problems, records.read(config.rollouts, Rollout))
    runs.write(workdir / "examples.jsonl", examples)
    judging = dataclasses.replace(config.judge, examples=str(workdir / "examples.jsonl"))
    _, judgements, counts = judge.judge_file(judging, workdir)
    runs.report(counts)
    made = pairs(examples, judgements)
    runs.write(workdir / "pairs.jsonl", made)
    num_problems = len({example.problem_id for example in examples})
    summary = {"responses": len(examples), "problems": num_problems, "pairs": len(made),
               "problems_without_pair": num_problems - len(made)}
    runs.report(summary)
    return summary


def main(argv=None) -> int:
    """`libra downstream`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
