"""ultralytics with its network, installer and prints off: import it from here, never directly.

It reads its switches once, when it is first imported.
"""
# ruff: noqa: E402

import os

import cv2

from weights.store import home

os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_VERBOSE"] = "false"
os.environ.setdefault("YOLO_CONFIG_DIR", str(home()))
_threads = cv2.getNumThreads()

from ultralytics import __version__
from ultralytics.data.augment import LetterBox
from ultralytics.nn import tasks
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes

cv2.setNumThreads(_threads)  # importing ultralytics takes OpenCV's threads away from the whole process

__all__ = [
    "AutoBackend",
    "LetterBox",
    "__version__",
    "check_imgsz",
    "non_max_suppression",
    "scale_boxes",
    "tasks",
]
