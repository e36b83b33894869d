"""Motor buses: the port the motor loop drives, and the drivers behind it."""
