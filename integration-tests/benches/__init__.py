"""Measurements that run in the rig."""
