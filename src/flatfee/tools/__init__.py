"""Tools made of Python: pydantic models, and plain typed functions. Knows no client and sends nothing.

``schema`` turns types into JSON Schema and JSON text into values; ``signature`` reads a function;
``definition`` joins both into what ``tools=[...]`` takes.
"""

from flatfee.tools.definition import FunctionTool, ToolDefinition, function_tool, pydantic_function_tool

__all__ = ["FunctionTool", "ToolDefinition", "function_tool", "pydantic_function_tool"]
