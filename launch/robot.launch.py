"""The whole stack on a robot:

ros2 launch robot_wm robot.launch.py params_file:=my_robot.yaml bundle:=my_bundle

`params_file` names the contract, the motor bus and its options (ros_nodes/params/robot.yaml is an example). The motors stay
disarmed until `ros2 service call /motor_node/arm std_srvs/srv/Trigger`.
"""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

# Node → the argument that switches it, or None.
NODES = {
    "motor_node": None,
    "posterior_node": None,
    "planner_node": None,
    "sensor_node": "sensors",
    "recorder_node": "record",
    "model_sync_node": "sync",
}
# Over shared memory a Fast DDS writer waits for a reader that was killed; the motor loop must not.
ENVIRONMENT = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4", "OMP_NUM_THREADS": "1"}


def generate_launch_description():
    params = PathJoinSubstitution([FindPackageShare("robot_wm"), "params", "robot.yaml"])
    arguments = [
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes."),
        DeclareLaunchArgument("params_file", default_value=params, description="ROS parameters of the robot."),
        DeclareLaunchArgument("bundle", default_value="", description="Model bundle, a directory."),
        DeclareLaunchArgument("task", default_value="robot", description="Name of the bag that is recorded."),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error."),
        DeclareLaunchArgument("autostart", default_value="true", description="Configure and activate the nodes."),
        DeclareLaunchArgument("sensors", default_value="false", description="Start sensor_node."),
        DeclareLaunchArgument("record", default_value="true", description="Start recorder_node."),
        DeclareLaunchArgument("sync", default_value="false", description="Start model_sync_node."),
    ]
    return LaunchDescription([*arguments, *(node(name, switch) for name, switch in NODES.items())])


def node(name, switch):
    """One lifecycle node; one that ends is started again and comes up disarmed."""
    given = {
        "bundle": ParameterValue(LaunchConfiguration("bundle"), value_type=str),
        "autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool),
    }
    if name == "recorder_node":
        given["bag"] = ParameterValue(LaunchConfiguration("task"), value_type=str)
    return LifecycleNode(
        package="robot_wm",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), given],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        additional_env=ENVIRONMENT,
        condition=None if switch is None else IfCondition(LaunchConfiguration(switch)),
        respawn=True,
        respawn_delay=2.0,
        output="screen",
    )
