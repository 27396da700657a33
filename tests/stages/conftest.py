"""A chat-completions server."""

import importlib.util
import pathlib

_spec = importlib.util.spec_from_file_location("chat_server", pathlib.Path(__file__).parents[1] / "chat_server.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
chat, server = _module.chat, _module.server
