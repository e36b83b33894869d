"""Packaging: pip, colcon (ament_python) and every entry point of the project."""

from glob import glob
from pathlib import Path

from setuptools import setup

PACKAGES = ["robot_wm", "robot_wm.bags", "robot_wm.buses", "models", "sim", "calibration", "ros_nodes"]

# ROS 2 Jazzy as wheels: x86-64 only. A robot takes ROS from apt instead (docs/dependencies.md).
ON_X86 = "; sys_platform == 'linux' and platform_machine == 'x86_64'"

EXTRAS = {
    # Exactly one of cpu, gpu, openvino: these wheels install over one another.
    "cpu": ["onnxruntime>=1.20"],
    "gpu": ["onnxruntime-gpu>=1.20"],
    "openvino": ["onnxruntime-openvino>=1.20"],
    "train": ["torch>=2.5", "onnx>=1.16", "onnxscript>=0.1", "tensorboard>=2.14"],
    "sim": ["mujoco>=3.3,<4", "dm_control==1.0.50", "imageio>=2.31", "imageio-ffmpeg>=0.4.9"],
    "ros": [
        f"ros-jazzy-rclpy==7.1.6{ON_X86}",
        f"ros-rclpy[fastrtps]==7.1.6{ON_X86}",
        f"ros-sensor-msgs==5.3.6{ON_X86}",
        f"ros-geometry-msgs==5.3.6{ON_X86}",
        f"ros-trajectory-msgs==5.3.6{ON_X86}",
        f"ros-diagnostic-msgs==5.3.6{ON_X86}",
        f"ros-std-srvs==5.3.6{ON_X86}",
        f"ros-lifecycle-msgs==2.0.3{ON_X86}",
    ],
    "report": ["matplotlib>=3.8"],
    "serial": ["pyserial>=3.5", "cobs>=1.2", "fastcrc>=0.3", "dynamixel-sdk>=4.1,<5", "feetech-servo-sdk>=1.0,<2"],
    # OpenCV 5 has no hand-eye solvers in Python.
    "calibration": ["opencv-python-headless>=4.10,<5", "scipy>=1.11"],
    "dev": [
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "scipy>=1.11",
        "ruff==0.17.*",
        "mypy==2.4.*",
        "types-PyYAML",
        "colcon-common-extensions>=0.3",
    ],
}

COMMANDS = [
    "contract = robot_wm.contract_commands:contract",
    "doctor = robot_wm.doctor:doctor",
    "replay = robot_wm.replay_commands:replay",
    "models = robot_wm.store_commands:models",
    "trust = robot_wm.trust_commands:trust",
    "bags = robot_wm.bags.commands:bags",
    "train = models.commands:train",
    "export = models.commands:export",
    "eval = sim.commands:evaluate",
    "collect = sim.commands:collect",
    "flywheel = sim.commands:flywheel",
    "sim = ros_nodes.commands:sim",
    "run = ros_nodes.commands:run",
    "record = ros_nodes.commands:record",
    "faults = ros_nodes.fault_commands:faults",
    "guard = ros_nodes.guard:guard",
    "calibrate = calibration.commands:calibrate",
]

BENCH_COMMANDS = [
    "plan = models.commands:bench_plan",
    "tick = robot_wm.bench_tick:bench_tick",
    "bags = robot_wm.bags.commands:bench_bags",
    "train = models.commands:bench_train",
    "soak = models.commands:bench_soak",
    "trust = sim.trust_commands:bench_trust",
    "planner-ablation = sim.commands:bench_planner_ablation",
    "correction = sim.correction_commands:bench_correction",
]

NODES = [
    "motor_node",
    "sensor_node",
    "camera_node",
    "posterior_node",
    "planner_node",
    "recorder_node",
    "model_sync_node",
]


def files(*patterns: str) -> list[str]:
    """Regular files that match, relative to the repository."""
    return sorted(name for pattern in patterns for name in glob(pattern, recursive=True) if Path(name).is_file())


setup(
    name="robot_wm",
    version="0.1.0",
    description="A latent world model and MPPI planner on a real robot, in real time, with ROS 2",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The robot_wm authors",
    maintainer="The robot_wm authors",
    maintainer_email="maintainers@robot-wm.example.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=PACKAGES,
    package_dir={"": "."},
    package_data={
        "models": ["*.c", "contracts/*.yaml", "zoo/*", "zoo/*/*", "zoo/*/graphs/*"],
        "sim": ["assets/*", "assets/**/*", "contracts/*.yaml"],
        "ros_nodes": ["params/*.yaml"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/robot_wm"]),
        ("share/robot_wm", ["package.xml"]),
        ("share/robot_wm/launch", files("launch/*.launch.py")),
        ("share/robot_wm/params", files("ros_nodes/params/*.yaml")),
        ("share/robot_wm/firmware", files("firmware/*")),
    ],
    zip_safe=False,
    install_requires=[
        "numpy>=1.26",
        "PyYAML>=6.0",
        "typer>=0.12",
        "rich>=13.8",
        "mcap>=1.2",
        "rosbags>=0.10",
        "zstandard>=0.22",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "robot-wm = robot_wm.cli:main",
            *(f"{node} = ros_nodes.{node}:main" for node in NODES),
        ],
        "robot_wm.commands": COMMANDS,
        "robot_wm.commands.bench": BENCH_COMMANDS,
        "robot_wm.buses": [
            "mujoco = sim.plant_bus:PlantBus",
            "loopback = robot_wm.buses.loopback:LoopbackBus",
            "serial = robot_wm.buses.framed_serial:FramedSerialBus",
            "dynamixel = robot_wm.buses.dynamixel:DynamixelBus",
            "feetech = robot_wm.buses.feetech:FeetechBus",
            "ros2_control = ros_nodes.ros2_control_bus:Ros2ControlBus",
        ],
        "robot_wm.sensors": ["mujoco = sim.plant_bus:PlantSensors"],
        "robot_wm.cameras": ["mujoco = sim.plant_camera:PlantCamera"],
        "robot_wm.plants": ["mujoco = sim.plant_bus:PlantControl"],
        "robot_wm.monitors": ["emulated = sim.bus_monitor:BusMonitor"],
        "robot_wm.films": ["mujoco = sim.video:film"],
    },
)
