"""Thin ROS 2 nodes: message → dataclass → one core call → message. No maths lives here, and nothing imports this package."""
