"""On-robot runtime: contract, latent filter, planner, safety and motor loop. Never imports torch, rclpy or mujoco."""

__version__ = "0.1.0"
