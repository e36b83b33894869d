"""Every topic: its relative name, type and quality of service, in one place, so that both ends always match."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Bool, Header
from trajectory_msgs.msg import JointTrajectory

from robot_wm.contract import Contract

JOINT_STATES = "joint_states"
TASK_OBSERVATION = "task_observation"
REWARD = "reward"
LATENT = "latent"
PLAN = "plan"
PLAN_INFO = "plan_info"
CORRECTION_INFO = "correction_info"
APPLIED = "applied"
COMMAND = "command"
ESTOP_CLEAR = "estop_clear"  # true as long as nobody wants a stop (parameter estop_clear_s of motor_node)
STATE = "state"
TRUST = "trust"  # posterior_node's, by rung: normal, cautious, policy or hold, with the cause
EVENT = "event"
MODEL = "model"  # model_sync_node to the others: load, use, drop
MODEL_STATUS = "model_status"  # their answers
DIAGNOSTICS = "/diagnostics"

TYPES: dict[str, type] = {
    JOINT_STATES: JointStateMsg,
    TASK_OBSERVATION: Image,
    REWARD: Image,
    LATENT: Image,
    PLAN: JointTrajectory,
    PLAN_INFO: DiagnosticArray,
    CORRECTION_INFO: DiagnosticArray,
    APPLIED: JointStateMsg,
    COMMAND: JointStateMsg,
    ESTOP_CLEAR: Bool,
    STATE: Header,
    TRUST: Header,
    EVENT: Header,
    MODEL: Header,
    MODEL_STATUS: Header,
    DIAGNOSTICS: DiagnosticArray,
}
LATCHED = (STATE, TRUST, EVENT, MODEL, MODEL_STATUS)


def observed(contract: Contract) -> dict[str, type]:
    """The topics that carry the contract's observations, with their types."""
    return {o.topic: Image if o.field == "data" else JointStateMsg for o in contract.observations}


def images(contract: Contract) -> dict[str, tuple[str, ...]]:
    """The topics that carry the contract's images, each with the images' names."""
    unique = dict.fromkeys(i.topic for i in contract.images)
    return {topic: tuple(i.name for i in contract.images if i.topic == topic) for topic in unique}


def recorded(contract: Contract) -> dict[str, type]:
    """Everything a bag of a run holds."""
    reward = {contract.reward.topic: Image} if contract.reward.topic else {}
    return TYPES | observed(contract) | dict.fromkeys(images(contract), Image) | reward


def stream(rate_hz: float) -> QoSProfile:
    """Reliable, at least one second deep at `rate_hz`: joint_states, applied, task_observation, reward, the infos."""
    return _profile(max(10, round(rate_hz)))


def latest() -> QoSProfile:
    """Reliable, depth 1: only the newest counts (latent)."""
    return _profile(1)


def plan(rate_hz: float) -> QoSProfile:
    """Reliable, depth 1, offering a deadline of five plan periods to whoever asks for one."""
    profile = _profile(1)
    profile.deadline = Duration(seconds=5.0 / rate_hz)
    return profile


def command() -> QoSProfile:
    """Reliable, depth 1; a command that could not be delivered within 0.2 s is dropped instead of being obeyed late."""
    profile = _profile(1)
    profile.lifespan = Duration(seconds=0.2)
    return profile


def latched(depth: int = 1) -> QoSProfile:
    """Reliable, kept for late subscribers: state, trust, event, model."""
    profile = _profile(depth)
    profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile


def recording(topic: str) -> QoSProfile:
    """What the recorder asks for: deep, and with what was latched before it came."""
    return latched(100) if topic in LATCHED else _profile(1000)


def foreign(depth: int = 10) -> QoSProfile:
    """Best effort: matches any publisher, cameras too."""
    profile = _profile(depth)
    profile.reliability = ReliabilityPolicy.BEST_EFFORT
    return profile


def _profile(depth: int) -> QoSProfile:
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )
