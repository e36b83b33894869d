"""MuJoCo robots and tasks, the plant, lockstep evaluation, the flywheel."""
