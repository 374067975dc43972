"""Evaluate NetworkPolicies as a network plugin does: whether a pod may connect to another pod or an address."""

import ipaddress


def matches(selector, labels):
    """A label selector of Kubernetes; an empty one matches everything."""
    tests = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, _: key in labels,
        "DoesNotExist": lambda key, _: key not in labels,
    }
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        tests[rule["operator"]](rule["key"], rule.get("values", ())) for rule in selector.get("matchExpressions", ())
    )


def may_connect(policies, source, target, port, protocol="TCP"):
    """`source` and `target` are (namespace, labels), or an address as text for a target outside."""
    return _open(policies, "Egress", source, target, port, protocol) and (
        isinstance(target, str) or _open(policies, "Ingress", target, source, port, protocol)
    )


def _open(policies, direction, pod, other, port, protocol):
    namespace, labels = pod
    rules, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    chosen = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == namespace
        and direction in policy["spec"]["policyTypes"]
        and matches(policy["spec"]["podSelector"], labels)
    ]
    return not chosen or any(
        _ports(rule, port, protocol) and (peers not in rule or any(_peer(p, namespace, other) for p in rule[peers]))
        for spec in chosen
        for rule in spec.get(rules, ())
    )


def _ports(rule, port, protocol):
    return "ports" not in rule or any(p["port"] == port and p["protocol"] == protocol for p in rule["ports"])


def _peer(peer, namespace, other):
    if isinstance(other, str):
        block = peer.get("ipBlock")
        address = ipaddress.ip_address(other)
        return block is not None and (
            address in ipaddress.ip_network(block["cidr"])
            and not any(address in ipaddress.ip_network(excluded) for excluded in block.get("except", ()))
        )
    if "ipBlock" in peer:
        return False
    other_namespace, labels = other
    if "namespaceSelector" in peer:
        right_namespace = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other_namespace})
    else:
        right_namespace = other_namespace == namespace
    return right_namespace and matches(peer.get("podSelector", {}), labels)
