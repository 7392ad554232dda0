"""What `python launch/train.py` finds as `launch`, since Python looks beside the file first.

Commands import `launch` before all else, so that this line is all that is printed.
"""

import sys

name = sys.argv[0].replace("\\", "/").rpartition("/")[2].partition(".")[0]
print(f"error: a command is run as a module: python -m launch.{name} ...", file=sys.stderr)
sys.exit(2)
