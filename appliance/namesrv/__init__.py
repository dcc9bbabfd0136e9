"""The NameServer's mind: who serves which topic, and the settings that everybody shares."""
