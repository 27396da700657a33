"""A judge as a reward function of other people's trainers: TRL's GRPOTrainer, and verl.

    from libra_jax.judges import trainers
    reward = trainers.from_url("http://127.0.0.1:8000")            # of `libra serve`; no JAX in this process
    trainer = GRPOTrainer(..., reward_funcs=reward)

The judge gets question and response alone: of what a trainer passes beside them (columns with answers, ground truth)
nothing is read but the column that `question` names.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from libra_jax.judges import wire

_CHUNK = 16  # pairs of a request, several of which are under way
_SECRET_SCHEME = "Bearer "


class Scorer(Protocol):
    """Gives each (question, response) a score from 0 to 1, or None where the judge came to no verdict."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """One score for each pair, in their order."""


class ServerError(RuntimeError):
    """The server gave no scores, after all retries; the message says what it said."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A Scorer over `libra serve`, by POST /score. It holds no connection.

    Busy, stopping, late and unreachable servers (429, 5xx, no connection) are asked again up to `retries` times, after
    a second, doubled each time up to 30, or what Retry-After says. ServerError then, and at once for what will not get
    better: a training run had better stop than go on without rewards.
    """

    url: str
    votes: int = 1
    token: str = dataclasses.field(default="", repr=False)
    timeout: float = 600.0
    retries: int = 8
    concurrency: int = 8

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """As Scorer.scores."""
        chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
        headers = {"Authorization": _SECRET_SCHEME + self.token} if self.token else {}
        client = wire.Client(self.url.rstrip("/") + "/score", headers, timeout=self.timeout)
        with concurrent.futures.ThreadPoolExecutor(self.concurrency) as threads:
            try:
                return [score for found in threads.map(lambda chunk: self._ask(client, chunk), chunks)
                        for score in found]
            finally:
                client.close()

    def _ask(self, client: wire.Client, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        items = [{"question": question, "response": response} for question, response in pairs]
        body = json.dumps({"items": items, "votes": self.votes}).encode()
        attempt = 0
        while True:
            attempt, wait = attempt + 1, min(30.0, 2.0 ** attempt)
            try:
                reply = client.post(body)
            except OSError as error:
                said, again = f"{type(error).__name__}: {error}", True
            else:
                if reply.status == 200:
                    return self._read(reply.body, len(pairs))
                said = f"HTTP {reply.status}: {reply.body[:300].decode('utf-8', 'replace')}"
                again = reply.status == 429 or reply.status >= 500
                after = reply.headers.get("retry-after", "")
                wait = min(60.0, float(after)) if after.isascii() and after.isdigit() else wait
            if not again or attempt > self.retries or client.closed.wait(wait * random.uniform(0.5, 1)):
                raise ServerError(f"{self.url}/score gave no scores (attempts: {attempt}): {said}")

    def _read(self, body: bytes, number: int) -> list[float | None]:
        scores: Any = None
        try:
            scores = json.loads(body)["scores"]
            fine = len(scores) == number and all(
                score is None or (type(score) in (int, float) and 0 <= score <= 1) for score in scores)
        except (ValueError, LookupError, TypeError):
            fine = False
        if not fine:
            raise ServerError(f"{self.url}/score answered something else than {number} scores: {body[:200]!r}")
        return [None if score is None else float(score) for score in scores]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reward:
    """A reward function for TRL (the object itself) and for verl (its method `verl`).

    Attributes:
      scorer: who scores.
      question: the dataset's column that holds the question (in verl, the field of extra_info); empty: TRL's prompt
        without its system message. With it, instructions around the question need not reach the judge.
      unparsed: the reward where the judge came to no verdict; None leaves it to TRL, which then gives the sample no
        advantage and no part in its group's mean (1.16; earlier versions took it as 0).
      name: under which TRL logs it.
    """

    scorer: Scorer
    question: str = ""
    unparsed: float | None = None
    name: str = "libra_judge"

    @property
    def __name__(self) -> str:
        """Under which TRL logs it."""
        return self.name

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
        """TRL's signature: rewards of completions, which like prompts are strings or lists of chat messages.

        `kwargs` are the dataset's columns and what else TRL passes; only the column `question` is looked at. None is
        also the reward of what holds no text. ValueError for lists of different length, or no such column.
        """
        if len(prompts) != len(completions):
            raise ValueError(f"{len(prompts)} prompts and {len(completions)} completions: expected as many")
        questions = prompts
        if self.question:
            if self.question not in kwargs:
                raise ValueError(f"the dataset has no column {self.question!r}; expected one of the columns passed: "
                                 f"{', '.join(sorted(kwargs))}")
            questions = kwargs[self.question]
        pairs = [(asked(question), answered(completion))
                 for question, completion in zip(questions, completions, strict=True)]
        known = {place: (question, answer) for place, (question, answer) in enumerate(pairs)
                 if question is not None and answer is not None}
        scores = self.scorer.scores(list(known.values())) if known else []
        found: list[float | None] = [None] * len(pairs)
        for place, score in zip(known, scores, strict=True):
            found[place] = self.unparsed if score is None else score
        return found

    def verl(self, data_source: str, solution_str: str, ground_truth: Any = None,
             extra_info: Mapping[str, Any] | None = None, **kwargs: Any) -> float:
        """verl's signature of compute_score: the reward of one response; `ground_truth` is not looked at.

        The question is the field `question` of extra_info (as verl's examples write it). Without a verdict: `unparsed`,
        or 0. ValueError where there is no such field.
        """
        name = self.question or "question"
        question = (extra_info or {}).get(name)
        if not isinstance(question, str):
            raise ValueError(f"extra_info has no text {name!r}, which is what the judge is to judge by; write it into "
                             "the data set, or name another field by Reward.question")
        (score,) = self.scorer.scores([(question, solution_str)])
        score = self.unparsed if score is None else score
        return 0.0 if score is None else score


def from_url(url: str, *, votes: int = 1, token_env: str = "", question: str = "",
             unparsed: float | None = None, timeout: float = 600.0, retries: int = 8) -> Reward:
    """A reward by the server at `url` (`libra serve`), such as http://127.0.0.1:8000; imports no JAX.

    `token_env` names the environment variable that holds the server's token. ValueError for a URL that is none, or a
    variable that is not set.
    """
    wire.check(url)
    token = os.environ.get(token_env, "").strip() if token_env else ""
    if token_env and not token:
        raise ValueError(f"the environment variable {token_env} is not set or empty; expected the server's token")
    server = Server(url=url.rstrip("/"), votes=votes, token=token, timeout=timeout, retries=retries)
    return Reward(scorer=server, question=question, unparsed=unparsed)


def from_checkpoint(path: str | os.PathLike, *, votes: int = 1, template: str = "", question: str = "",
                    unparsed: float | None = None, **how: Any) -> Reward:
    """A reward by a checkpoint folder, loaded into this process on its first device; `how` goes to Judge.load
    (judges/scoring.py), such as thinking=False, max_new_tokens=1024 or devices=jax.devices()[1:2].
    """
    import jax

    from libra_jax.judges.scoring import Judge

    judge = Judge.load(path, votes=votes, template=template, **{"devices": jax.local_devices()[:1], **how})
    return Reward(scorer=judge, question=question, unparsed=unparsed)


def asked(prompt: Any) -> str | None:
    """The question in a prompt: the text itself, or of messages what is not the system's. None for none.

    A single user message is its text; several turns are written out under the roles that speak.
    """
    if isinstance(prompt, str):
        return prompt
    turns = [(message.get("role"), _text(message)) for message in prompt if message.get("role") != "system"]
    if not turns or any(text is None for _, text in turns):
        return None
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{role}: {text}" for role, text in turns)


def answered(completion: Any) -> str | None:
    """The response in a completion: the text itself, or of messages what the assistant says. None for none."""
    if isinstance(completion, str):
        return completion
    texts = [_text(message) for message in completion if message.get("role", "assistant") == "assistant"]
    said = [text for text in texts if text]
    return "\n\n".join(said) if said else None


def _text(message: Mapping[str, Any]) -> str | None:
    """A message's text, its parts of type text joined; None where it holds anything else, which no judge here sees."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and content and all(part.get("type") == "text" for part in content):
        return "".join(part["text"] for part in content)
    return None
