"""How a task is learned: data, the base, methods, heads and the loop."""

import logging

# where it is installed, peft imports it, and it tells everybody of optional kernels that it did not find
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
