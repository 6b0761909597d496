"""Anthropic's Messages API, spoken for callers of chat completions: ``provider`` sends, all else translates."""
