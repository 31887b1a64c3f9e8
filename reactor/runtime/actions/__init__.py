"""Actions: functions that reach the world, on loops and threads that are not the engine's."""
