"""`python -m appliance` is the `appliance` command.

Runs in: the process that the user starts.
Owns: nothing.
Fails: as appliance.cli.main does.
"""

import sys

from appliance.cli import main

sys.exit(main())
