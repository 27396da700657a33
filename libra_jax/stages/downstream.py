r"""Orders responses to problems without answers by a judge: Rollout -> PreferencePair, for `libra dpo`.

    libra downstream --workdir=DIR --config.problems=problems.jsonl --config.rollouts=rollouts.jsonl \
        --config.judge.checkpoint=FOLDER
    libra downstream --workdir=DIR --config.problems=problems.jsonl --config.rollouts=rollouts.jsonl \
        --config.by=majority

The best and the worst response of a problem by score (share of votes for "correct") make one pair; problems whose
responses all score alike make none and are counted. `by` lets a majority vote or the true verifier order them instead,
to see what having no answers costs.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.command import entry
from libra_jax.judging import reward
from libra_jax.records import Judgement, JudgingExample, PreferencePair, Problem, Rollout, Verdict
from libra_jax.stages import judge
from libra_jax.verify import batch

_VERDICTS: dict[bool | None, Verdict] = {True: "correct", False: "incorrect", None: "unparsed"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    problems: JSON lines of Problem; only the verifier looks at answers, and needs them.
    rollouts: JSON lines of Rollout, several for each problem.
    by: who orders the responses: "judge" is `judge`; "majority" calls those correct that give the commonest final
      answer (judges/baselines.py); "verifier" decides by the rules of verify/, undecided being unparsed.
    judge: how the responses are judged; its `examples` is set by this stage.
    """

    problems: Annotated[str, configs.File(Problem)] = ""
    rollouts: Annotated[str, configs.File(Rollout)] = ""
    by: Literal["judge", "majority", "verifier"] = "judge"
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


def check(config: Config) -> None:
    """ValueError for a path that is missing, or a judge that cannot be."""
    runs.need(config, "problems", "rollouts")
    if config.by == "judge":
        judge.check(dataclasses.replace(config.judge, examples="examples.jsonl"), group="judge.")


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes examples.jsonl, judgements.jsonl (which resumes) and pairs.jsonl to `workdir`; returns counts.

    ValueError for a rollout of an unknown problem, or where the verifier shall decide a problem without an answer.
    """
    check(config)
    problems = {problem.id: problem for problem in records.read(config.problems, Problem)}
    examples = unlabelled(problems, records.read(config.rollouts, Rollout))
    runs.write(workdir / "examples.jsonl", examples)
    if config.by == "verifier":
        judgements = _verified(config, workdir, problems, examples)
    else:
        how = config.judge if config.by == "judge" else judge.Config(judge="majority_answer")
        judging = dataclasses.replace(how, examples=str(workdir / "examples.jsonl"))
        _, judgements, counts = judge.judge_file(judging, workdir)
        runs.report(counts)
    made = pairs(examples, judgements)
    runs.write(workdir / "pairs.jsonl", made)
    num_problems = len({example.problem_id for example in examples})
    summary = {"responses": len(examples), "problems": num_problems, "pairs": len(made),
               "problems_without_pair": num_problems - len(made)}
    runs.report(summary)
    return summary


def _verified(config: Config, workdir: pathlib.Path, problems: Mapping[str, Problem],
              examples: Sequence[JudgingExample]) -> list[Judgement]:
    """The rules' decisions on all examples as judgements, in judgements.jsonl, going on where a killed run stopped."""
    unknown = next((each.problem_id for each in examples if problems[each.problem_id].answer is None), None)
    if unknown is not None:
        raise ValueError(f"by=verifier: problem {unknown!r} has no answer; give problems with answers, or order by "
                         "judge or majority")
    judging = dataclasses.replace(config, judge=judge.Config())  # which does not judge here
    out = runs.resume(workdir / "judgements.jsonl", Judgement, judging, inputs=("problems", "rollouts"))
    done = list(out.done)
    left = examples[len(done):]
    if not out.finished:
        decisions = batch.decide((each.response, problems[each.problem_id].answer or "") for each in left)
        for example, decision in zip(left, decisions, strict=True):
            done.append(Judgement(example_id=example.id, judge="verifier", sample=0, thought=decision.why,
                                  verdict=_VERDICTS[decision.correct], num_tokens=0))
            out.append(done[-1])
        out.finish()
    return done


def main(argv=None) -> int:
    """`libra downstream`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=("examples.jsonl", "judgements.jsonl", "pairs.jsonl"))


if __name__ == "__main__":
    raise SystemExit(main())
