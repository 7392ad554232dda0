import sys

if sys.argv[:1] == ["-m"]:  # a command, before the seconds that its imports take
    from launch.common.interrupts import end_while_starting

    end_while_starting()
