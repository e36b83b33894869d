"""A contract for nodes that need no model."""

CONTRACT = """
name: one
model_hz: 50
motor_hz: 100
observations:
  - {name: position, topic: joint_states, field: position, names: [slider]}
action: {names: [slider], mode: effort, low: [-10], high: [10]}
"""
