"""Local servers in place of services that exist only on the Internet. They are not those services.

Each follows a published wire contract, and its docstring says which one, from where and of what date. They prove what
this project does with such answers, not what the service does. Only the app's development settings accept their addresses.
"""

from stack.standins.gemini import GeminiStandIn
from stack.standins.perplexity import PerplexityStandIn

__all__ = ["GeminiStandIn", "PerplexityStandIn"]
