"""Every error a user can meet, each one clear sentence that names the file, field or topic and the way out."""


class RobotWmError(Exception):
    """Base of all errors this project raises on bad input; the command line prints its text and exits 1."""


class ContractError(RobotWmError):
    """A contract file is malformed, or two contracts differ in a model-facing field."""


class BagError(RobotWmError):
    """A bag is truncated, lacks a topic or joint, or holds data that cannot be used."""


class BundleError(RobotWmError):
    """A bundle is half-written, tampered with, or does not fit the contract or this machine."""


class BackendError(RobotWmError):
    """An execution provider is unknown or not available, or a graph returned something non-finite."""


class MessageError(RobotWmError):
    """A received message has missing joints, a wrong shape, a non-finite number or an unusable stamp."""


class BusError(RobotWmError):
    """A motor bus did not answer in time, or answered with a fault."""


class CalibrationError(RobotWmError):
    """A calibration file is missing, malformed, foreign or poor, or a recording cannot tell what was asked of it."""


class StoreError(RobotWmError):
    """A model store cannot be read, written or reached."""


class RunError(RobotWmError):
    """A run cannot start or go on: a process died, a display or an extra is missing, a disk is full."""
