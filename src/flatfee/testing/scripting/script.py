"""The script of a gateway: rules in their order, and which of them answers a try.

What a rule asks for is in ``matching``, what it answers in ``replies`` and ``faults``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Unpack

from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.matching import Match, MatchKeywords, counts
from flatfee.testing.scripting.played import Answer, Beside, Played, calling
from flatfee.testing.scripting.reach import Reach
from flatfee.testing.scripting.replies import made_for, reusable
from flatfee.testing.scripting.speaking import refused
from flatfee.testing.scripting.strict import ScriptFailed, UnmatchedRequest, explained

MAX_RULES: Final = 10_000
MAX_ASKED: Final = 10_000
"""Tries that a script remembers, the latest."""

MAX_ASKED_BYTES: Final = 32 << 20
"""Bytes of their bodies that it remembers."""

MAX_FAILURES: Final = 100
"""Requests without a rule that are remembered, the first."""

_TOLD: Final = 3
"""Failures that are told in full."""


class Rule:
    """One rule of a script. ``name`` is what the journal calls it; ``match`` is what it asks for."""

    def __init__(self, script: Script, name: str, match: Match, replies: Sequence[Answer], times: int | None) -> None:
        self.name = name
        self.match = match
        self._script = script
        self._replies = tuple(replies)
        self._times = times
        self.early = any(isinstance(reply, Beside) for reply in replies)
        """Whether it is looked at when a request comes, and not when a route is asked."""
        self._used = 0

    @property
    def used(self) -> int:
        """How many tries it has answered."""
        return self._used

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The tries that it has answered, as far as the script remembers them."""
        return self._script.asked_of(self)

    @property
    def unsaid(self) -> int:
        """How many of its replies were not said yet."""
        return max(0, len(self._replies) - self._used)

    @property
    def takes_all(self) -> bool:
        """Whether it leaves nothing that it matches to the rules behind it."""
        return self._times is None and calling(self._replies[-1]) is None

    def silent(self, asked: Asked) -> str | None:
        """Return why it does not answer a try that it matches; ``None``: it does."""
        if self._times is not None:
            return f"used up: it answered times={self._times}" if self._used >= self._times else None
        last = calling(self._replies[-1])
        if self._used >= len(self._replies) and last is not None and last.loops(asked):
            return "it has nothing new to say: it would repeat the tool call whose result came (unless told times=)"
        return None

    def remove(self) -> None:
        """Take it out of the script."""
        self._script.remove(self)

    def take(self) -> Answer:
        """Return the reply whose turn it is, and count it. The script holds its lock."""
        reply = self._replies[min(self._used, len(self._replies) - 1)]
        self._used += 1
        return reply

    def __repr__(self) -> str:
        return f"<Rule {self.name}, used {self._used}>"


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a test must hear of, even if its client swallowed it."""

    kind: type[AssertionError]
    message: str
    cause: BaseException | None = None


class Taped(Protocol):
    """Recorded answers."""

    def choose(self, asked: Asked) -> tuple[str, Played] | str:
        """Return the name of what answers a try, and the answer; or why nothing does."""
        ...


class Script:
    """Rules in the order in which they were made; the first that matches and is not used up answers.

    ``routes`` are the names that a rule may ask for; ``tapes`` answer what no rule does. Used from the test's
    threads and the gateway's: what its author's functions do, they do without the lock.
    """

    def __init__(self, *, strict: bool = False, routes: Sequence[str] = (), tapes: Taped | None = None) -> None:
        self.strict = strict
        self._tapes = tapes
        self._routes = tuple(routes)
        self.lock = threading.Lock()
        self._rules: tuple[Rule, ...] = ()
        self._reach = Reach()
        self._asked: deque[tuple[Rule, Asked]] = deque()
        self._asked_bytes = 0
        self.has_early = False
        """Whether there may be a rule that is looked at when a request comes."""
        self._made = 0
        self._failures: list[_Failure] = []
        self._failed = 0

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in the order in which they are tried."""
        return self._rules

    def add(
        self,
        *replies: Answer,
        times: int | None = None,
        first: bool = False,
        name: str | None = None,
        **match: Unpack[MatchKeywords],
    ) -> Rule:
        """Add a rule behind the others, or before them with ``first``.

        It gives its replies in turn, one for each try, and the last one for ever; with ``times`` it answers so
        many tries at most.

        Raises:
            TypeError: an unknown keyword, or what is no answer.
            ValueError: an impossible value; or a rule that could never be reached.
        """
        wanted = Match.of(match, self._routes)
        answers = _checked(replies, times)
        early = _is_early(answers, match)
        with self.lock:
            if len(self._rules) >= MAX_RULES:
                message = f"A script has at most {MAX_RULES} rules; remove some, or give one several replies."
                raise ValueError(message)
            if not first:
                self._reach.check(wanted, early=early)
            self._made += 1
            rule = Rule(self, name or f"#{self._made} ({wanted})", wanted, answers, times)
            self._reach.add(rule)
            self.has_early = self.has_early or early
            self._rules = (rule, *self._rules) if first else (*self._rules, rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule out; nothing happens if it is not there."""
        with self.lock:
            self._rules = tuple(each for each in self._rules if each is not rule)
            self._reach.remove(rule)

    def clear(self) -> None:
        """Forget every rule, and what went wrong."""
        with self.lock:
            self._rules, self._made, self._failures, self._failed = (), 0, [], 0
            self.has_early = False
            self._reach = Reach()
            self._asked.clear()
            self._asked_bytes = 0

    def asked_of(self, rule: Rule) -> tuple[Asked, ...]:
        """Return the tries that a rule has answered, as far as they are remembered."""
        with self.lock:
            return tuple(asked for by, asked in self._asked if by is rule)

    def choose(self, asked: Asked) -> tuple[str, Played] | None:
        """Return the name of the rule that answers a try, and what it does; ``None``: the default model does.

        A request of which no route was asked yet (``attempt`` 0) meets the early rules, and no other.
        """
        rules, early = self._rules, not asked.attempt
        rule: Rule | None = None
        try:
            for rule in rules:
                if rule.early is early and rule.match.holds(asked):
                    reply = self._taken(rule, asked)
                    made = made_for(asked, reply) if reply is not None else None
                    if isinstance(made, Beside):
                        made.begin(asked)
                        return None
                    if made is not None:
                        return rule.name, made.play(asked)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a function of the test's author, pytest.fail() included
            return "error", self._failed_with(rule, error)
        if early:
            return None
        taped = self._tapes.choose(asked) if self._tapes is not None else None
        if isinstance(taped, tuple):
            return taped
        if not self.strict:
            return None
        message = _unmatched(asked, [rule for rule in rules if not rule.early], taped)
        self._note(_Failure(UnmatchedRequest, message))
        return "unmatched", refused(message, "unmatched_request")

    def check(self) -> None:
        """Tell of what went wrong since this was last asked.

        Raises:
            UnmatchedRequest: a strict script had no rule for a request.
            ScriptFailed: a function of the script raised an error.
        """
        with self.lock:
            failures, failed = self._failures, self._failed
            self._failures, self._failed = [], 0
        if not failures:
            return
        first = failures[0]
        told = list(dict.fromkeys(failure.message for failure in failures))[:_TOLD]
        if failed > len(told):
            told.append(f"({failed} tries in all.)")
        raise first.kind("\n\n".join(told)) from first.cause

    def check_all_used(self) -> None:
        """Tell of rules that did not come to say all that they have.

        Raises:
            AssertionError: there are some; the message names each.
        """
        idle = [f"  {rule.name}: used {rule.used}, {rule.unsaid} not said" for rule in self._rules if rule.unsaid]
        if idle:
            message = "Not every reply of the script was said:\n" + "\n".join(idle)
            raise AssertionError(message)

    def _taken(self, rule: Rule, asked: Asked) -> Answer | None:
        with self.lock:
            if rule.silent(asked) is not None:
                return None
            self._remember(rule, asked)
            return rule.take()

    def _remember(self, rule: Rule, asked: Asked) -> None:
        self._asked.append((rule, asked))
        self._asked_bytes += len(asked.upstream)
        while len(self._asked) > MAX_ASKED or (self._asked_bytes > MAX_ASKED_BYTES and len(self._asked) > 1):
            self._asked_bytes -= len(self._asked.popleft()[1].upstream)

    def _failed_with(self, rule: Rule | None, error: BaseException) -> Played:
        name = f"Rule {rule.name}" if rule is not None else "The script"
        message = f"{name} raised {type(error).__name__}: {error}"
        self._note(_Failure(ScriptFailed, message, error))
        return refused(message, "script_failed")

    def _note(self, failure: _Failure) -> None:
        with self.lock:
            self._failed += 1
            if len(self._failures) < MAX_FAILURES:
                self._failures.append(failure)


def _unmatched(asked: Asked, rules: Sequence[Rule], taped: str | None) -> str:
    """Return why nothing answers a try; where there are tapes and no rules, only the tapes are told of."""
    told = [explained(asked, rules)] if rules or taped is None else []
    return "\n".join([*told, *([taped] if taped is not None else [])])


def _checked(replies: Sequence[Answer], times: int | None) -> Sequence[Answer]:
    if not replies:
        raise ValueError("A rule needs a reply; to let the default model answer, give OBEY.")
    given: object = times
    if given is not None and not counts(given):
        message = f"times={times!r} is not possible: give how many tries the rule answers, 1 or more."
        raise ValueError(message)
    if times is not None and times < len(replies):
        message = f"times={times} with {len(replies)} replies: the last would never be said; leave some out."
        raise ValueError(message)
    return [reusable(reply) for reply in replies]


def _is_early(answers: Sequence[Answer], match: Collection[str]) -> bool:
    """Tell whether a rule is looked at when a request comes; refuse one that would be too early, or too late."""
    early = [answer for answer in answers if isinstance(answer, Beside)]
    if early and len(early) < len(answers):
        message = f"{early[0]} and what a provider answers are two rules: give it one of its own, with times=1."
        raise ValueError(message)
    late = [name for name in ("route", "tier", "attempt", "nth") if name in match]
    if early and late:
        message = f"{early[0]} happens before a route is asked, so its rule cannot match {late[0]!r}; leave it out."
        raise ValueError(message)
    return bool(early)
