"""The coordinator's mind: functions from (request, state) to a response or an effect."""
