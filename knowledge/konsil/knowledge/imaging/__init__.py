"""Imaging: networks, augmentation, rates and tasks for images and masks.

Pixels are float32 from 0 to 1, channels first; masks are int64 with 0 for the background. The
task factories are ``konsil.knowledge.imaging.tasks:classify`` and ``:segment``.
"""
