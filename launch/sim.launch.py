"""The whole stack against the real-time MuJoCo plant:

ros2 launch robot_wm sim.launch.py task:=cartpole_swingup bundle:=models/zoo/cartpole_swingup

A task with a camera (cartpole_camera, reacher_camera) needs `camera:=true`. Nothing moves until
`ros2 service call /motor_node/arm std_srvs/srv/Trigger`.
"""

import os
import sys
import tempfile

from launch.actions import DeclareLaunchArgument, ExecuteProcess, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

NODES = ("motor_node", "sensor_node", "camera_node", "posterior_node", "planner_node", "recorder_node")
# Over shared memory a Fast DDS writer waits for a reader that was killed; the motor loop must not.
ENVIRONMENT = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4", "OMP_NUM_THREADS": "1"}


def generate_launch_description():
    params = PathJoinSubstitution([FindPackageShare("robot_wm"), "params", "sim.yaml"])
    arguments = [
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes."),
        DeclareLaunchArgument("params_file", default_value=params, description="ROS parameters of all nodes."),
        DeclareLaunchArgument("bundle", description="Model bundle, a directory."),
        DeclareLaunchArgument(
            "task",
            default_value="cartpole_swingup",
            description="cartpole_swingup, cartpole_camera, reacher_camera or dmc:<domain>-<task>.",
        ),
        DeclareLaunchArgument("camera", default_value="false", description="Draw the task's images."),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error."),
        DeclareLaunchArgument("autostart", default_value="true", description="Configure and activate the nodes."),
    ]
    socket = os.path.join(tempfile.mkdtemp(prefix="robot_wm_"), "plant.sock")
    plant = ExecuteProcess(
        cmd=[
            sys.executable,
            "-m",
            "sim.plant",
            "--with-parent",
            "--socket",
            socket,
            "--task",
            LaunchConfiguration("task"),
        ],
        name="plant",
        output="screen",
        on_exit=Shutdown(reason="the plant has ended"),
    )
    return LaunchDescription([*arguments, plant, *(node(name, socket) for name in NODES)])


def node(name, socket):
    """One lifecycle node; one that ends, or comes before the plant is ready, is started again."""
    options = ParameterValue('{"socket": "' + socket + '"}', value_type=str)
    own = {
        "motor_node": {"bus": "mujoco", "bus_options": options},
        "sensor_node": {"sensors": "mujoco", "sensor_options": options},
        "camera_node": {"cameras": "mujoco", "camera_options": options},
        "recorder_node": {"bag": ParameterValue(LaunchConfiguration("task"), value_type=str)},
    }
    given = {
        "bundle": ParameterValue(LaunchConfiguration("bundle"), value_type=str),
        "autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool),
    }
    return LifecycleNode(
        package="robot_wm",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), given | own.get(name, {})],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        additional_env=ENVIRONMENT,
        condition=IfCondition(LaunchConfiguration("camera")) if name == "camera_node" else None,
        respawn=True,
        respawn_delay=2.0,
        output="screen",
    )
