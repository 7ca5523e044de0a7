"""The version of what runs.

This is the version of a checkout and of the images. The build of the wheel writes the version of the tag here.
"""

__version__ = "0.2.0"
