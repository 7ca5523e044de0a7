"""promtool and amtool as the tests run them."""

from alerts.programs import Programs
from stack.programs import find

PROGRAMS = Programs(find)
