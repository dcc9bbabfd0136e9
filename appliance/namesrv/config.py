"""Requests about the KV table, which survives restarts, and about the NameServer's settings.

Runs in: nameserver.
Owns: nothing. Formats: nameserver.md section 3.
Fails: with response codes; files are written as effects, before the answer leaves.
"""

from appliance.net.json_text import dumps
from appliance.net.requests import Request, Response
from appliance.net.responses import NO_PERMISSION, QUERY_NOT_FOUND, SYSTEM_ERROR

from appliance.namesrv import kv_file
from appliance.namesrv.settings import parse_properties
from appliance.namesrv.state import Save, State

ORDER_TOPIC_CONFIG = "ORDER_TOPIC_CONFIG"
"""The namespace whose keys are ordered topics and whose values are `broker:queues;..`."""


def put_kv_config(request: Request, state: State) -> Response:
    """Set a value. Peer: `putKVConfig`."""
    args = request.args
    if args.namespace is None or args.key is None:
        return Response(SYSTEM_ERROR, "namespace or key is null")
    state.kv.setdefault(args.namespace, {})[args.key] = args.value or ""
    _save_kv(state)
    return Response()


def get_kv_config(request: Request, state: State) -> Response:
    """Read a value. Peer: `getKVConfig`."""
    args = request.args
    value = state.kv.get(args.namespace, {}).get(args.key)
    if value is None:
        remark = f"No config item, Namespace: {args.namespace} Key: {args.key}"
        return Response(QUERY_NOT_FOUND, remark)
    return Response(fields={"value": value})


def delete_kv_config(request: Request, state: State) -> Response:
    """Remove a value, if it is there; its namespace stays. Peer: `deleteKVConfig`."""
    state.kv.get(request.args.namespace, {}).pop(request.args.key, None)
    _save_kv(state)
    return Response()


def get_kvlist_by_namespace(request: Request, state: State) -> Response:
    """Read a namespace. Peer: `getKVListByNamespace`."""
    namespace = request.args.namespace
    if namespace not in state.kv:
        return Response(QUERY_NOT_FOUND, f"No config item, Namespace: {namespace}")
    return Response(body=dumps({"table": state.kv[namespace]}))


def update_namesrv_config(request: Request, state: State) -> Response:
    """Change settings; unknown ones are ignored. Peer: `updateConfig`."""
    settings = state.settings
    try:
        changes = parse_properties(request.body.decode())
    except ValueError:
        return Response(SYSTEM_ERROR, "string2Properties error")
    if settings.allowed(changes) != changes:
        return Response(NO_PERMISSION, "Can not update config in black list.")
    settings.apply(changes)
    if settings.config_store_path:
        state.effects.append(Save(settings.config_store_path, settings.text().encode()))
    return Response()


def get_namesrv_config(request: Request, state: State) -> Response:
    """All settings. Peer: `getConfig`."""
    return Response(body=state.settings.text().encode("utf-8", "replace"))


def _save_kv(state: State) -> None:
    if state.settings.kv_config_path:
        content = kv_file.write(state.kv)
        state.effects.append(Save(state.settings.kv_config_path, content))
