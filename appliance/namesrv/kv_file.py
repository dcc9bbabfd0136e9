"""The KV file, all that a NameServer keeps over a restart, in Apache's form.

Runs in: nameserver.
Owns: the form: `{"configTable":{"<namespace>":{"<key>":"<value>"}}}` (kvConfig.json).
Fails: `JsonError` on a file that is something else.
"""

from appliance.net.json_text import JsonError, dumps, loads

Table = dict[str, dict[str, str]]
"""namespace -> key -> value."""


def read(content: bytes) -> Table:
    """The table in a file."""
    try:
        table = loads(content)["configTable"]
        return {str(n): {str(k): str(v) for k, v in pairs.items()} for n, pairs in table.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise JsonError("not a KV file") from error


def write(table: Table) -> bytes:
    """The file for a table."""
    return dumps({"configTable": table})
